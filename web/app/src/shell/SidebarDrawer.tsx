import { Drawer } from '@mantine/core'
import type { ReactNode } from 'react'
import classes from './AppFrame.module.css'

/** The sidebar of a narrow screen, over the page. */
export function SidebarDrawer({ opened, onClose, children }: { opened: boolean; onClose: () => void; children: ReactNode }) {
  return (
    <Drawer
      opened={opened}
      onClose={onClose}
      size={320}
      padding={0}
      withCloseButton={false}
      attributes={{ content: { 'aria-label': 'Tasks and repositories' } }}
      classNames={{ body: classes.drawer }}
    >
      {children}
    </Drawer>
  )
}
