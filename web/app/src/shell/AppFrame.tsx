import { ActionIcon } from '@mantine/core'
import { IconMenu2 } from '@tabler/icons-react'
import { useEffect, useMemo, useState, type ReactNode } from 'react'
import { useLocation } from 'wouter'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { Boundary } from '../app/Boundary'
import { Logo } from '../app/Logo'
import { paths } from '../app/paths'
import { OrganizationProvider } from '../state/organization'
import { roleIn, useShell, type Shell } from '../state/shell'
import { ConnectionBanner, EmptyState, lazyDialog, useFocusBack, useNarrow } from '../ui'
import classes from './AppFrame.module.css'
import { FrameContext, type Frame } from './frame'
import { FrameShortcuts } from './FrameShortcuts'
import { Sidebar } from './Sidebar'
import { setFilter } from './useListRows'

const failed = (what: string) => `The ${what} could not be opened`
const SidebarDrawer = lazyDialog(failed('list of tasks'), () => import('./SidebarDrawer').then((it) => it.SidebarDrawer))
const NewTaskDialog = lazyDialog(failed('dialog for a new task'), () => import('./newTask').then((it) => it.NewTaskDialog))
const AddRepositoryDialog = lazyDialog(failed('dialog for a new repository'), () =>
  import('../repository').then((it) => it.AddRepositoryDialog),
)
const ShortcutsDialog = lazyDialog(failed('list of shortcuts'), () => import('./ShortcutsDialog').then((it) => it.ShortcutsDialog))
const EventLogDialog = lazyDialog(failed('event log'), () => import('./EventLogDialog').then((it) => it.EventLogDialog))

type Dialog = { kind: 'new-task'; repositoryId?: string; onBranch?: string } | { kind: 'add-repository' | 'shortcuts' | 'events' }

/** Sidebar, banners and dialogs around the pages of an organization. */
export function AppFrame({ organizationId, children }: { organizationId: string; children: ReactNode }) {
  const shell = useShell()
  const [dialog, setDialog] = useState<Dialog>()
  const [drawer, setDrawer] = useState(false)
  const foreign = isForeign(shell, organizationId)
  const role = roleIn(shell, organizationId)
  const [path, navigate] = useLocation()
  // The filter is not kept for another organization or another person.
  useEffect(() => () => setFilter(''), [])
  const close = () => {
    setDialog(undefined)
    if (path === paths.newTask(organizationId)) navigate(paths.organization(organizationId), { replace: true })
  }
  const frame = useMemo<Frame>(
    () => ({
      newTask: (repositoryId, onBranch) => setDialog({ kind: 'new-task', repositoryId, onBranch }),
      addRepository: () => setDialog({ kind: 'add-repository' }),
      showShortcuts: () => setDialog({ kind: 'shortcuts' }),
      showEvents: () => setDialog({ kind: 'events' }),
      closeDrawer: () => setDrawer(false),
      canWrite: role >= Role.MEMBER,
      canAdminister: role >= Role.ADMIN,
    }),
    [role],
  )
  return (
    <OrganizationProvider organizationId={organizationId}>
      <FrameContext.Provider value={frame}>
        <FrameShortcuts />
        <Layout shell={shell} organizationId={organizationId} hasList={!foreign} drawer={drawer} setDrawer={setDrawer}>
          {foreign ? <Foreign /> : children}
        </Layout>
        <Dialogs dialog={dialog} close={close} />
      </FrameContext.Provider>
    </OrganizationProvider>
  )
}

function isForeign(shell: Shell, organizationId: string): boolean {
  return shell.phase === 'live' && !shell.organizations.some((it) => it.organizationId === organizationId)
}

function Foreign() {
  return (
    <EmptyState level={1} title="You do not have access to this organization">
      It does not exist, or you are not a member of it. Choose one of yours in the menu at the top of the list.
    </EmptyState>
  )
}

interface LayoutProps {
  shell: Shell
  organizationId: string
  /** Whether the list is shown as a page of its own on a narrow screen. */
  hasList: boolean
  drawer: boolean
  setDrawer: (opened: boolean) => void
  children: ReactNode
}

function Layout({ shell, organizationId, hasList, drawer, setDrawer, children }: LayoutProps) {
  const narrow = useNarrow()
  const [path] = useLocation()
  // On a phone the list itself is the first page.
  const listIsPage = hasList && narrow && /^\/o\/[^/]+(\/new)?$/.test(path)
  const sidebar = <Sidebar shell={shell} organizationId={organizationId} />
  return (
    <div className={classes.frame} data-narrow={narrow}>
      <a className="fd-skip" href="#content">
        Skip to content
      </a>
      {!narrow && <aside className={classes.sidebar}>{sidebar}</aside>}
      <div className={classes.main}>
        {narrow && !listIsPage && <TopBar onMenu={() => setDrawer(true)} />}
        <ConnectionBanner />
        <main id="content" tabIndex={-1} className={classes.content}>
          <Boundary resetKey={path}>
            {listIsPage && (
              <div className={classes.listPage}>
                <h1 className="fd-visually-hidden">Tasks</h1>
                {sidebar}
              </div>
            )}
            <div className={listIsPage ? 'fd-visually-hidden' : classes.page} inert={listIsPage}>
              {children}
            </div>
          </Boundary>
        </main>
      </div>
      {narrow && !listIsPage && (
        <SidebarDrawer opened={drawer} onClose={() => setDrawer(false)}>
          {sidebar}
        </SidebarDrawer>
      )}
    </div>
  )
}

function TopBar({ onMenu }: { onMenu: () => void }) {
  return (
    <header className={classes.top}>
      <ActionIcon size="lg" onClick={onMenu} aria-label="Open the list of tasks">
        <IconMenu2 size={20} />
      </ActionIcon>
      <Logo size={20} />
      <span className={classes.name}>Foundry</span>
    </header>
  )
}

function Dialogs({ dialog, close }: { dialog: Dialog | undefined; close: () => void }) {
  useFocusBack(dialog !== undefined)
  return (
    <>
      {dialog?.kind === 'new-task' && <NewTaskDialog repositoryId={dialog.repositoryId} onBranch={dialog.onBranch} onClose={close} />}
      {dialog?.kind === 'add-repository' && <AddRepositoryDialog onClose={close} />}
      {dialog?.kind === 'shortcuts' && <ShortcutsDialog onClose={close} />}
      {dialog?.kind === 'events' && <EventLogDialog onClose={close} />}
    </>
  )
}
