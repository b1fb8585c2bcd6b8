import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen } from '@testing-library/react'
import { useState, type ComponentType, type ReactNode } from 'react'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { lazyDialog, lazyPart } from './lazyPart'
import { dismissToast, toastStore } from './toast'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
  for (const toast of toastStore.get()) dismissToast(toast.id)
})

type Settle<T> = { resolve: (it: T) => void; reject: (error: Error) => void }

/** A file whose loading the test settles. */
function file<T>() {
  const asked: Settle<T>[] = []
  const read = vi.fn(() => new Promise<T>((resolve, reject) => asked.push({ resolve, reject })))
  const answer = (settle: (newest: Settle<T>) => void) => act(async () => settle(asked.at(-1)!))
  return { read, answer }
}

const show = (node: ReactNode) => render(<MantineProvider env="test">{node}</MantineProvider>)
const gone = new Error('Failed to fetch dynamically imported module')

describe('a part of the page', () => {
  const Panel = ({ name }: { name: string }) => <p>{name} is here</p>

  it('has its place held until it is here, and is there at once the next time', async () => {
    const { read, answer } = file<ComponentType<{ name: string }>>()
    const Lazy = lazyPart('The panel could not be loaded', <p>waiting</p>, read)
    const { unmount } = show(<Lazy name="Panel" />)
    screen.getByText('waiting')
    await answer((it) => it.resolve(Panel))
    screen.getByText('Panel is here')
    unmount()
    show(<Lazy name="Other" />)
    screen.getByText('Other is here')
    expect(read).toHaveBeenCalledTimes(1)
  })

  it('leaves the focus where it is when it comes', async () => {
    const { read, answer } = file<ComponentType<{ name: string }>>()
    const Lazy = lazyPart('The panel could not be loaded', <p>waiting</p>, read)
    show(
      <>
        <button type="button">Tab</button>
        <Lazy name="Panel" />
      </>,
    )
    screen.getByText('Tab').focus()
    await answer((it) => it.resolve(Panel))
    expect(document.activeElement).toBe(screen.getByText('Tab'))
  })

  it('says that its file is missing, offers the page anew, and comes when another attempt succeeds', async () => {
    const { read, answer } = file<ComponentType<{ name: string }>>()
    const Lazy = lazyPart('The panel could not be loaded', <p>waiting</p>, read)
    show(<Lazy name="Panel" />)
    await answer((it) => it.reject(gone))
    const alert = screen.getByRole('alert')
    expect(alert.textContent).toContain('The panel could not be loaded')
    expect(alert.textContent).toContain('PAGE_PART_MISSING')
    expect(alert.textContent).toContain(gone.message)
    const reload = vi.spyOn(location, 'reload').mockReturnValue()
    fireEvent.click(screen.getByRole('button', { name: 'Reload the page' }))
    expect(reload).toHaveBeenCalledTimes(1)
    await act(async () => fireEvent.click(screen.getByRole('button', { name: 'Try again' })))
    await answer((it) => it.resolve(Panel))
    screen.getByText('Panel is here')
  })
})

describe('a dialog', () => {
  interface Props {
    opened: boolean
    onClose: () => void
  }
  const states: boolean[] = []
  const Question = ({ opened }: Props) => {
    states.push(opened)
    return opened ? <p>Really?</p> : null
  }
  function Page({ dialog: Dialog }: { dialog: ComponentType<Props> }) {
    const [opened, setOpened] = useState(false)
    return (
      <>
        <button type="button" onClick={() => setOpened(true)}>
          Ask
        </button>
        <Dialog opened={opened} onClose={() => setOpened(false)} />
      </>
    )
  }

  it('is loaded when it is asked for, and in the page before it opens so that it knows what had the focus', async () => {
    const { read, answer } = file<ComponentType<Props>>()
    show(<Page dialog={lazyDialog('The confirmation dialog could not be opened', read)} />)
    expect(read).not.toHaveBeenCalled()
    fireEvent.click(screen.getByText('Ask'))
    await answer((it) => it.resolve(Question))
    screen.getByText('Really?')
    expect(states[0]).toBe(false)
  })

  it('counts as closed when its file is missing, with a message, and can be asked for again', async () => {
    const { read, answer } = file<ComponentType<Props>>()
    show(<Page dialog={lazyDialog('The confirmation dialog could not be opened', read)} />)
    fireEvent.click(screen.getByText('Ask'))
    await answer((it) => it.reject(gone))
    expect(toastStore.get().map(({ title, reason, action }) => [title, reason, action?.label])).toEqual([
      ['The confirmation dialog could not be opened', 'PAGE_PART_MISSING', 'Reload the page'],
    ])
    fireEvent.click(screen.getByText('Ask'))
    expect(read).toHaveBeenCalledTimes(2)
    await answer((it) => it.resolve(Question))
    screen.getByText('Really?')
  })
})
