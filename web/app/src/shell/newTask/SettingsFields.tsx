import { TextInput } from '@mantine/core'
import classes from './NewTaskDialog.module.css'

/** Settings that are chosen before the agent has sent its offer. */
export interface AgentSettings {
  model: string
  mode: string
  effort: string
}

export const noSettings: AgentSettings = { model: '', mode: '', effort: '' }

/** Fields for the model, mode and effort with which a session starts, by the agent's own names. */
export function SettingsFields({ value, onChange }: { value: AgentSettings; onChange: (value: AgentSettings) => void }) {
  const field = (key: keyof AgentSettings, label: string) => (
    <TextInput
      label={label}
      placeholder="From the profile"
      maxLength={120}
      value={value[key]}
      onChange={(event) => onChange({ ...value, [key]: event.currentTarget.value })}
    />
  )
  return (
    <details>
      <summary>Model, mode and effort</summary>
      <div className={classes.pair}>
        {field('model', 'Model')}
        {field('mode', 'Mode')}
        {field('effort', 'Effort')}
      </div>
    </details>
  )
}
