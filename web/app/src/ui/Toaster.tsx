import { Button, CloseButton } from '@mantine/core'
import { IconAlertTriangle, IconCircleCheck } from '@tabler/icons-react'
import { useSyncExternalStore } from 'react'
import { dismissToast, holdToasts, toastStore, type Toast } from './toast'
import classes from './Toaster.module.css'

/** Shows the messages of `toastError` and `toastDone`; rendered once. */
export function Toaster() {
  const toasts = useSyncExternalStore(toastStore.subscribe, toastStore.get)
  return (
    <section
      aria-label="Messages"
      className={classes.toaster}
      onPointerEnter={() => holdToasts(true)}
      onPointerLeave={() => holdToasts(false)}
    >
      {toasts.map((toast) => (
        <Card key={toast.id} toast={toast} />
      ))}
    </section>
  )
}

function Card({ toast }: { toast: Toast }) {
  const Glyph = toast.tone === 'error' ? IconAlertTriangle : IconCircleCheck
  const act = () => {
    toast.action?.run()
    dismissToast(toast.id)
  }
  return (
    <div className={classes.toast} data-tone={toast.tone}>
      <Glyph size={18} aria-hidden className={classes.icon} />
      <div className={classes.body}>
        <div className={classes.title}>{toast.title}</div>
        {toast.message !== '' && <div>{toast.message}</div>}
        {toast.reason !== undefined && <div className={classes.reason}>{toast.reason}</div>}
        {toast.action !== undefined && (
          <Button size="compact-xs" variant="default" mt={6} onClick={act}>
            {toast.action.label}
          </Button>
        )}
      </div>
      <CloseButton size="sm" aria-label="Close message" onClick={() => dismissToast(toast.id)} />
    </div>
  )
}
