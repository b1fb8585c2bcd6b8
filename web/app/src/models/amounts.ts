import { ModelLimitScope, ModelLimitUnit, type ModelLimit, type ModelUsage } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'

const MICROS = 1_000_000

/** A number of tokens, or a sum in dollars, for people. */
export function amountText(unit: ModelLimitUnit, amount: bigint): string {
  if (unit === ModelLimitUnit.MICROS) return dollars(amount)
  return `${Number(amount).toLocaleString('en-US')} tokens`
}

/** Millionths of a dollar as dollars; with more digits where two would show nothing. */
export function dollars(micros: bigint): string {
  const value = Number(micros) / MICROS
  return `$${value.toFixed(value !== 0 && value < 0.01 ? 6 : 2)}`
}

/** The amount in a text; 0 or undefined = it is not valid. */
export function amountOf(unit: ModelLimitUnit, text: string): bigint | undefined {
  const typed = text.trim().replace(/[,_ ]/g, '')
  if (unit === ModelLimitUnit.TOKENS) return /^\d{1,15}$/.test(typed) ? BigInt(typed) : undefined
  return microsOf(typed)
}

/** A decimal number in millionths; undefined = it is not valid, or too precise. */
export function microsOf(text: string): bigint | undefined {
  return /^\d{1,9}(\.\d{1,6})?$/.test(text.trim()) ? BigInt(Math.round(Number(text) * MICROS)) : undefined
}

/** Millionths as a decimal number, as short as it can be; empty for undefined. */
export function decimal(micros: bigint | undefined): string {
  if (micros === undefined) return ''
  const digits = micros.toString().padStart(7, '0')
  return `${digits.slice(0, -6)}.${digits.slice(-6)}`.replace(/\.?0+$/, '')
}

/** Whom a limit applies to, for people. */
export function whose({ scope, taskId }: ModelLimit): string {
  if (scope === ModelLimitScope.ORGANIZATION) return 'The organization, each month'
  return taskId === '' ? 'Each task' : `Task ${taskId}`
}

/** Whether the limit applies to many tasks, so that there is no single amount of use. */
export function isOfEachTask({ scope, taskId }: ModelLimit): boolean {
  return scope === ModelLimitScope.TASK && taskId === ''
}

/** All tokens of an entry. */
export function tokensOf(usage: ModelUsage): bigint {
  return usage.inputTokens + usage.outputTokens + usage.cacheReadTokens + usage.cacheWriteTokens
}
