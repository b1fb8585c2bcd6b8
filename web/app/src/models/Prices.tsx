import { TextInput } from '@mantine/core'
import classes from './ModelsPage.module.css'
import { newPrice, type Price } from './prices'
import { Rows } from './Rows'
import { plain } from './SettingsDialog'
import type { Problems } from './useSettings'

interface Props {
  prices: readonly Price[]
  onPrices: (prices: Price[]) => void
  problems: Problems
  error: string | undefined
}

const amounts = [
  { field: 'input', label: 'Input' },
  { field: 'output', label: 'Output' },
  { field: 'cached', label: 'Cached' },
] as const

/** What models cost. */
export function Prices({ prices, onPrices, problems, error }: Props) {
  return (
    <Rows
      title="Prices"
      one="Price"
      about="In US dollars per million input, output and cached input tokens. Usage and limits in dollars are based on these prices."
      rows={prices}
      onRows={onPrices}
      fresh={newPrice}
      error={error}
    >
      {(price, change, isFresh) => (
        <>
          <TextInput
            {...plain}
            className={classes.wide}
            label="Model"
            autoFocus={isFresh}
            value={price.model}
            onChange={(event) => change({ model: event.currentTarget.value })}
            error={problems[`${price.id}/model`]}
          />
          {amounts.map(({ field, label }) => (
            <TextInput
              key={field}
              {...plain}
              className={classes.amount}
              label={label}
              inputMode="decimal"
              placeholder={field === 'cached' ? price.input || 'same as input' : ''}
              value={price[field]}
              onChange={(event) => change({ [field]: event.currentTarget.value })}
              error={problems[`${price.id}/${field}`]}
            />
          ))}
        </>
      )}
    </Rows>
  )
}
