import { useMantineColorScheme } from '@mantine/core'
import { useLocation, useRoute } from 'wouter'
import { paths } from '../app/paths'
import { useOrganization } from '../state/organization'
import { neighbour } from '../state/taskList'
import { useShortcuts } from '../ui'
import { useFrame } from './frame'
import { focusFilter } from './listFocus'
import { useListRows } from './useListRows'

/** The shortcuts that work on every page of an organization. */
export function FrameShortcuts() {
  const frame = useFrame()
  const { organizationId, repositories, tasks } = useOrganization()
  const [, navigate] = useLocation()
  const [, params] = useRoute('/o/:organizationId/t/:taskId')
  const { rows } = useListRows()
  const { toggleColorScheme } = useMantineColorScheme()
  const step = (by: 1 | -1) => () => {
    const taskId = neighbour(rows, params?.taskId, by)
    if (taskId !== undefined) navigate(paths.task(organizationId, taskId))
  }
  const toRepository = () => {
    const task = tasks.find((it) => it.taskId === params?.taskId)
    const repositoryId = task?.repositoryId ?? repositories[0]?.repositoryId
    if (repositoryId !== undefined) navigate(paths.repository(organizationId, repositoryId))
  }
  useShortcuts('Everywhere', [
    { keys: 'c', label: 'New task', run: () => frame.canWrite && frame.newTask() },
    { keys: '/', label: 'Filter tasks', run: focusFilter },
    { keys: 'j', label: 'Next task', run: step(1) },
    { keys: 'k', label: 'Previous task', run: step(-1) },
    { keys: 'g h', label: 'Go to the overview', run: () => navigate(paths.organization(organizationId)) },
    { keys: 'g r', label: 'Go to the repository', run: toRepository },
    { keys: 'g m', label: 'Go to the models', run: () => navigate(paths.models(organizationId)) },
    { keys: 'g a', label: 'Go to your access tokens', run: () => navigate(paths.tokens(organizationId)) },
    { keys: 'g s', label: 'Go to your devices and sessions', run: () => navigate(paths.sessions(organizationId)) },
    { keys: 'g e', label: 'Event log', run: frame.showEvents },
    { keys: 'g d', label: 'Switch between light and dark', run: toggleColorScheme },
    { keys: '?', label: 'Show shortcuts', run: frame.showShortcuts },
  ])
  return null
}
