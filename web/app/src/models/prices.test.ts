import { create } from '@bufbuild/protobuf'
import { ModelPriceSchema } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { expect, test } from 'vitest'
import { newPrice, priceMessages, priceProblems, priceRows, pricesText } from './prices'

const opus = create(ModelPriceSchema, { model: 'opus', inputMicros: 3_000_000n, outputMicros: 15_500_000n, cachedInputMicros: 300_000n })
const small = create(ModelPriceSchema, { model: 'small', inputMicros: 1n, outputMicros: 0n, cachedInputMicros: 1n })

test('stored prices are shown in dollars, and sent as they were', () => {
  expect(pricesText(priceRows([opus, small]))).toBe('opus: $3 in, $15.5 out, $0.3 cached; small: $0.000001 in, $0 out')
  expect(priceMessages(priceRows([opus, small]))).toEqual([opus, small].map(({ $typeName: _, ...price }) => price))
})

test('cached input costs as other input unless it has a price of its own', () => {
  const typed = { ...newPrice(), model: ' m ', input: '2', output: '4' }
  expect(priceMessages([typed])).toEqual([{ model: 'm', inputMicros: 2_000_000n, outputMicros: 4_000_000n, cachedInputMicros: 2_000_000n }])
  expect(priceMessages([{ ...typed, cached: '0' }])[0]?.cachedInputMicros).toBe(0n)
})

test('a price has a model of its own and amounts that are plain numbers', () => {
  const good = { ...newPrice(), model: 'm', input: '3', output: '0.25' }
  expect(priceProblems([good])).toEqual({})
  // A comma could separate thousands or decimals.
  for (const input of ['', '-1', '2,5', '1e3', '.5', '1.0000001', 'x'])
    expect(Object.keys(priceProblems([{ ...good, input }]))).toEqual([`${good.id}/input`])
  const again = { ...newPrice(), model: 'm', input: '1', output: '1', cached: '$1' }
  expect(Object.keys(priceProblems([good, again]))).toEqual([`${again.id}/model`, `${again.id}/cached`])
})
