import { Avatar, Menu, UnstyledButton, useMantineColorScheme, type MantineColorScheme } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconDevices, IconHistory, IconKey, IconKeyboard, IconLogout } from '@tabler/icons-react'
import { Link } from 'wouter'
import { signOut } from '../app/leave'
import { paths } from '../app/paths'
import { useOrganization } from '../state/organization'
import type { Shell } from '../state/shell'
import { Kbd } from '../ui'
import { useFrame } from './frame'
import classes from './UserMenu.module.css'

/** The signed-in user, with theme, access tokens, sessions, shortcuts, event log and signing out. */
export function UserMenu({ shell }: { shell: Shell }) {
  const client = useFoundry()
  const frame = useFrame()
  const { organizationId } = useOrganization()
  const login = shell.user?.login ?? ''
  const name = shell.user === undefined || shell.user.displayName === '' ? login : shell.user.displayName
  return (
    <Menu position="top-start" width={250}>
      <Menu.Target>
        <UnstyledButton className={classes.button} aria-label={`Account of ${login}`}>
          <Avatar size={24} radius="xl" color="iris" variant="filled" aria-hidden>
            {name.slice(0, 1).toUpperCase()}
          </Avatar>
          <bdi className={classes.name}>{login}</bdi>
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          Signed in as <bdi>{name}</bdi>
        </Menu.Label>
        <ColorScheme />
        <Menu.Divider />
        <Menu.Item
          component={Link}
          href={paths.tokens(organizationId)}
          onClick={frame.closeDrawer}
          leftSection={<IconKey size={16} />}
          rightSection={<Kbd keys="g a" />}
        >
          Access tokens
        </Menu.Item>
        <Menu.Item
          component={Link}
          href={paths.sessions(organizationId)}
          onClick={frame.closeDrawer}
          leftSection={<IconDevices size={16} />}
          rightSection={<Kbd keys="g s" />}
        >
          Devices and sessions
        </Menu.Item>
        <Menu.Item leftSection={<IconKeyboard size={16} />} rightSection={<Kbd keys="?" />} onClick={frame.showShortcuts}>
          Shortcuts
        </Menu.Item>
        <Menu.Item leftSection={<IconHistory size={16} />} rightSection={<Kbd keys="g e" />} onClick={frame.showEvents}>
          Event log
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item leftSection={<IconLogout size={16} />} onClick={() => void signOut(client)}>
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  )
}

function ColorScheme() {
  const { colorScheme, setColorScheme } = useMantineColorScheme()
  return (
    <Menu.RadioGroup value={colorScheme} onChange={(it) => setColorScheme(it as MantineColorScheme)}>
      <Menu.RadioItem value="auto">System theme</Menu.RadioItem>
      <Menu.RadioItem value="light">Light</Menu.RadioItem>
      <Menu.RadioItem value="dark">Dark</Menu.RadioItem>
    </Menu.RadioGroup>
  )
}
