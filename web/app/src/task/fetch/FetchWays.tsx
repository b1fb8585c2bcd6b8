import { Button, Group, Modal, Stack } from '@mantine/core'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { CopyLine } from '../../ui'
import { visibleLine } from '../../ui/text/visible'
import { bundleCommand, fetchCommand, gitCommand } from './commands'

interface Props {
  task: Task
  opened: boolean
  onClose: () => void
}

/** How to have the commits of a task, complete whatever their size: by `foundry`, by git alone, or as one file. */
function FetchWays({ task, opened, onClose }: Props) {
  return (
    <Modal opened={opened} onClose={onClose} title="Fetch the branch" size="lg">
      <Stack gap="sm">
        <p style={{ margin: 0 }}>
          The work is the branch <bdi>{visibleLine(task.branch)}</bdi>, with all its commits. In a clone of the repository:
        </p>
        <CopyLine text={fetchCommand(task)} label="Copy the command of foundry" />
        <p style={{ margin: 0 }}>With git alone. It asks for a password, which is an access token; any user name will do:</p>
        <CopyLine text={gitCommand(task, window.location.origin)} label="Copy the command of git" />
        <p style={{ margin: 0 }}>As one file with the whole history, to clone or fetch from:</p>
        <CopyLine text={bundleCommand(task)} label="Copy the command for a bundle" />
      </Stack>
      <Group justify="flex-end" mt="lg">
        <Button variant="default" size="sm" onClick={onClose}>
          Close
        </Button>
      </Group>
    </Modal>
  )
}

export default FetchWays
