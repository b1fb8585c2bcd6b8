import { Button } from '@mantine/core'
import type { FoundryError } from '@foundry/client'
import { useEffect, useState, type ComponentType, type ReactNode } from 'react'
import { ErrorState } from './ErrorState'
import { Part, usePart } from './part'
import { toastError } from './toast'

const reload = { label: 'Reload the page', run: () => location.reload() }

/**
 * A part of the page whose code is loaded when it is first shown. Until then `waiting` is in its place; a failure
 * shows the error, with buttons to retry and to reload the page.
 *
 * @param title What failed, for example "The changes could not be loaded".
 */
export function lazyPart<P extends object>(title: string, waiting: ReactNode, read: () => Promise<ComponentType<P>>): ComponentType<P> {
  const part = new Part(read)
  // biome-ignore lint/correctness/noComponentHookFactories: made once for each part, as a module is loaded
  return function LazyPart(props: P) {
    const { value: Shown, error, loading } = usePart(part)
    if (Shown !== undefined) return <Shown {...props} />
    if (error !== undefined) return <PartMissing title={title} error={error} onRetry={part.load} retrying={loading} />
    return waiting
  }
}

interface MissingProps {
  title: string
  error: FoundryError
  onRetry: () => void
  retrying?: boolean
  compact?: boolean
}

/** Shows that code could not be loaded, and what can be done. */
export function PartMissing(props: MissingProps) {
  return (
    <ErrorState
      {...props}
      actions={
        <Button variant="default" onClick={reload.run}>
          {reload.label}
        </Button>
      }
    />
  )
}

interface Closable {
  /** Whether it is open; without it, it is open while it is rendered. */
  opened?: boolean
  onClose: () => void
}

/**
 * A dialog whose code is loaded when it is first opened. A failure shows a message, and the dialog counts as closed,
 * so that it can be opened again.
 *
 * @param title What failed, for example "The dialog for a new task could not be opened".
 */
export function lazyDialog<P extends Closable>(title: string, read: () => Promise<ComponentType<P>>): ComponentType<P> {
  const part = new Part(read)
  // biome-ignore lint/correctness/noComponentHookFactories: made once for each dialog, as a module is loaded
  return function LazyDialog(props: P) {
    const { opened = true, onClose } = props
    const Shown = useDialogPart(part, title, opened, onClose)
    // A dialog records what had the focus when it opens, but not when it is rendered open.
    const [settled, setSettled] = useState(false)
    useEffect(() => setSettled(Shown !== undefined), [Shown])
    if (Shown === undefined) return null
    return props.opened === undefined ? <Shown {...props} /> : <Shown {...props} opened={opened && settled} />
  }
}

/** The code of a dialog once it is opened and loaded; `onClose` is called when it could not be loaded. */
export function useDialogPart<T>(part: Part<T>, title: string, opened: boolean, onClose: () => void): T | undefined {
  const { value, error } = usePart(part, opened)
  useEffect(() => {
    if (error === undefined) return
    part.clearError()
    if (!opened) return
    toastError(title, error, reload)
    onClose()
  }, [part, title, opened, error, onClose])
  return value
}
