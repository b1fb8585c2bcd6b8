import { ActionIcon, Tooltip } from '@mantine/core'
import { IconCheck, IconCopy } from '@tabler/icons-react'
import { useClipboard } from '@mantine/hooks'
import { useEffect } from 'react'
import { announce } from './Announcer'

/** Copies a text; `label` names it, for example "Copy branch name". */
export function CopyButton({ value, label }: { value: string; label: string }) {
  const clipboard = useClipboard({ timeout: 1500 })
  const { copied, error } = clipboard
  useEffect(() => {
    if (copied) announce('Copied')
    else if (error !== null) announce('Copying failed', true)
  }, [copied, error])
  return (
    <Tooltip label={copied ? 'Copied' : error === null ? label : 'Copying failed'}>
      <ActionIcon size="sm" onClick={() => clipboard.copy(value)} aria-label={label}>
        {copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
      </ActionIcon>
    </Tooltip>
  )
}
