import { render, screen } from '@testing-library/react'
import { beforeEach, expect, test, vi } from 'vitest'
import { VirtualList } from './VirtualList'

beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(600)
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(300)
})

const list = (items: readonly string[], activeIndex: number) => (
  <VirtualList
    items={items}
    rowHeight={() => 50}
    keyOf={(it) => it}
    activeIndex={activeIndex}
    render={(it) => it}
    containerProps={{ role: 'list' }}
  />
)
const names = Array.from({ length: 200 }, (_, at) => `row ${at}`)

test('a list that is scrolled away from the chosen row stays there when rows change their order', () => {
  const { rerender } = render(list(names, 0))
  const scroller = screen.getByRole('list')
  const scrolled = vi.spyOn(scroller, 'scrollTo')
  rerender(list([names[1] as string, names[0] as string, ...names.slice(2)], 1))
  expect(scrolled).not.toHaveBeenCalled()
})

test('a list goes to a row that is chosen', () => {
  const { rerender } = render(list(names, 0))
  const scrolled = vi.spyOn(screen.getByRole('list'), 'scrollTo')
  rerender(list(names, 150))
  expect(scrolled).toHaveBeenCalled()
})
