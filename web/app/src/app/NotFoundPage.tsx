import { Button } from '@mantine/core'
import { IconError404 } from '@tabler/icons-react'
import { Link } from 'wouter'
import { EmptyState } from '../ui'
import { paths } from './paths'
import { useTitle } from './useTitle'

/** The page for an unknown address. */
export function NotFoundPage({ inFrame = false }: { inFrame?: boolean }) {
  useTitle('Not found')
  const content = (
    <EmptyState
      level={1}
      icon={IconError404}
      title="Page not found"
      actions={
        <Button component={Link} href={paths.home} variant="default">
          Go to your tasks
        </Button>
      }
    >
      The link may be old or mistyped.
    </EmptyState>
  )
  return inFrame ? content : <main>{content}</main>
}
