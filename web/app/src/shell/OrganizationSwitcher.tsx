import { Menu, Skeleton, UnstyledButton } from '@mantine/core'
import { newRequestId } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { IconCheck, IconCpu, IconSelector } from '@tabler/icons-react'
import { Link, useLocation } from 'wouter'
import { Logo } from '../app/Logo'
import { paths } from '../app/paths'
import type { Shell } from '../state/shell'
import { Kbd, toastError } from '../ui'
import { useFrame } from './frame'
import classes from './OrganizationSwitcher.module.css'

const roles: Partial<Record<Role, string>> = {
  [Role.VIEWER]: 'viewer',
  [Role.MEMBER]: 'member',
  [Role.ADMIN]: 'admin',
  [Role.OWNER]: 'owner',
}

/**
 * Shows the organization, with links to its models and to the other organizations; the chosen one opens first from
 * then on, in all clients.
 */
export function OrganizationSwitcher({ shell, organizationId }: { shell: Shell; organizationId: string }) {
  const client = useFoundry()
  const [, navigate] = useLocation()
  const { closeDrawer } = useFrame()
  const current = shell.organizations.find((it) => it.organizationId === organizationId)
  const choose = async (to: string) => {
    if (to === organizationId) return
    navigate(paths.organization(to))
    try {
      await client.auth.selectOrganization({ organizationId: to, requestId: newRequestId() })
    } catch (error) {
      toastError('The organization was not saved as your default', error)
    }
  }
  return (
    <Menu position="bottom-start" width={260}>
      <Menu.Target>
        <UnstyledButton className={classes.button} aria-label={`Organization ${current?.name ?? ''}, switch`}>
          <Logo />
          {current === undefined && shell.phase === 'loading' ? (
            <Skeleton height={12} width={110} />
          ) : (
            <bdi className={classes.name}>{current?.name ?? 'Foundry'}</bdi>
          )}
          <IconSelector size={15} aria-hidden className={classes.more} />
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>Organizations</Menu.Label>
        {shell.organizations.map((it) => (
          <Menu.Item
            key={it.organizationId}
            onClick={() => void choose(it.organizationId)}
            aria-current={it.organizationId === organizationId ? 'true' : undefined}
            leftSection={<IconCheck size={15} opacity={it.organizationId === organizationId ? 1 : 0} />}
            rightSection={<span className={classes.role}>{roles[it.role] ?? ''}</span>}
          >
            <bdi>{it.name}</bdi>
          </Menu.Item>
        ))}
        {shell.organizations.length === 0 && <Menu.Item disabled>None</Menu.Item>}
        <Menu.Divider />
        <Menu.Item
          component={Link}
          href={paths.models(organizationId)}
          onClick={closeDrawer}
          leftSection={<IconCpu size={15} />}
          rightSection={<Kbd keys="g m" />}
        >
          Models
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  )
}
