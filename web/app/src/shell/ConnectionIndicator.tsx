import { Tooltip, UnstyledButton } from '@mantine/core'
import { useConnection } from '@foundry/client/react'
import type { ConnectionPhase } from '@foundry/client'
import { IconCircleCheck, IconCloudOff, IconLoader2, IconLogout, IconPlugConnectedX, IconPlugX } from '@tabler/icons-react'
import { StatusIcon, type Status } from '../ui'
import classes from './ConnectionIndicator.module.css'
import { useFrame } from './frame'

const words: Record<ConnectionPhase, Status> = {
  connecting: { word: 'Connecting', tone: 'busy', icon: IconLoader2, spins: true },
  open: { word: 'Live', tone: 'ok', icon: IconCircleCheck },
  reconnecting: { word: 'Reconnecting', tone: 'wait', icon: IconPlugConnectedX },
  offline: { word: 'Offline', tone: 'wait', icon: IconCloudOff },
  'signed-out': { word: 'Signed out', tone: 'quiet', icon: IconLogout },
  closed: { word: 'Closed', tone: 'quiet', icon: IconPlugX },
}

/** State of the connection in a word; opens the log that explains why something was refreshed. */
export function ConnectionIndicator() {
  const { phase } = useConnection()
  const { showEvents } = useFrame()
  const status = words[phase]
  return (
    <Tooltip label="Event log">
      <UnstyledButton className={classes.button} onClick={showEvents} data-connection={phase}>
        <StatusIcon status={status} size={14} decorative />
        <span>{status.word}</span>
      </UnstyledButton>
    </Tooltip>
  )
}
