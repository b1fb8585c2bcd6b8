import { ModelLimitUnit } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { expect, test } from 'vitest'
import { amountOf, amountText, dollars } from './amounts'

test('amounts are read as people write them, and nothing else is one', () => {
  expect(amountOf(ModelLimitUnit.TOKENS, ' 5,000_000 ')).toBe(5_000_000n)
  expect(amountOf(ModelLimitUnit.MICROS, '12.50')).toBe(12_500_000n)
  for (const text of ['', '-1', '1.5', '$5', '1e9']) expect(amountOf(ModelLimitUnit.TOKENS, text)).toBeUndefined()
  for (const text of ['', '-1', '.5', '5 USD', '1.1234567']) expect(amountOf(ModelLimitUnit.MICROS, text)).toBeUndefined()
})

test('amounts are shown with their unit, and small costs are not nothing', () => {
  expect(amountText(ModelLimitUnit.TOKENS, 1_234_567n)).toBe('1,234,567 tokens')
  expect([dollars(12_500_000n), dollars(0n), dollars(120n)]).toEqual(['$12.50', '$0.00', '$0.000120'])
})
