import { Modal } from '@mantine/core'
import type { ReactNode } from 'react'
import classes from './attachments.module.css'

interface Props {
  opened: boolean
  onClose: () => void
  name: string
  url: string | undefined
  /** What is below the picture. */
  children: ReactNode
}

/** A picture as large as the window allows. */
export function PictureDialog({ opened, onClose, name, url, children }: Props) {
  return (
    <Modal opened={opened} onClose={onClose} title={name} size="auto">
      {url !== undefined && <img src={url} alt={name} className={classes.large} />}
      <div className={classes.under}>{children}</div>
    </Modal>
  )
}
