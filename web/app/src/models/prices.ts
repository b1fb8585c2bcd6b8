import type { ModelPrice } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { decimal, microsOf } from './amounts'

/** The price of a model in a form, in dollars per million tokens, as typed. */
export interface Price {
  readonly id: string
  readonly model: string
  readonly input: string
  readonly output: string
  /** Empty = the same as other input. */
  readonly cached: string
}

let made = 0

/** An empty price. */
export function newPrice(): Price {
  made += 1
  return { id: `prices//${made}`, model: '', input: '', output: '', cached: '' }
}

/** Stored prices as a form holds them. */
export function priceRows(prices: readonly ModelPrice[]): Price[] {
  return prices.map(({ model, inputMicros, outputMicros, cachedInputMicros }) => ({
    id: `prices/${model}`,
    model,
    input: decimal(inputMicros),
    output: decimal(outputMicros),
    cached: cachedInputMicros === inputMicros ? '' : decimal(cachedInputMicros),
  }))
}

/** The prices as they are sent; only after `priceProblems` found none. */
export function priceMessages(prices: readonly Price[]) {
  return prices.map(({ model, input, output, cached }) => {
    const inputMicros = microsOf(input) ?? 0n
    const cachedInputMicros = cached.trim() === '' ? inputMicros : (microsOf(cached) ?? 0n)
    return { model: model.trim(), inputMicros, outputMicros: microsOf(output) ?? 0n, cachedInputMicros }
  })
}

/** The prices as text, in dollars per million tokens. */
export function pricesText(prices: readonly Price[]): string {
  const dollars = (text: string) => `$${decimal(microsOf(text)) || text.trim()}`
  return prices
    .map(({ model, input, output, cached }) => {
      const rest = cached.trim() === '' || dollars(cached) === dollars(input) ? '' : `, ${dollars(cached)} cached`
      return `${model.trim()}: ${dollars(input)} in, ${dollars(output)} out${rest}`
    })
    .join('; ')
}

/** Problems of prices, by `id/FIELD`. */
export function priceProblems(prices: readonly Price[]): Record<string, string> {
  const problems: Record<string, string> = {}
  prices.forEach((price, at) => {
    const model = price.model.trim()
    if (model === '') problems[`${price.id}/model`] = 'A model is required.'
    else if (prices.slice(0, at).some((other) => other.model.trim() === model)) problems[`${price.id}/model`] = 'This model is used twice.'
    for (const field of ['input', 'output', 'cached'] as const) {
      const text = price[field].trim()
      if (field === 'cached' && text === '') continue
      if (microsOf(text) === undefined) problems[`${price.id}/${field}`] = 'Enter dollars, for example 3 or 0.25.'
    }
  })
  return problems
}
