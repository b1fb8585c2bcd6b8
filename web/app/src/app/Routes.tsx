import { Redirect, Route, Switch } from 'wouter'
import { AppFrame } from '../shell/AppFrame'
import { Welcome } from '../shell/Welcome'
import { homeOrganization, useShell } from '../state/shell'
import { ConnectionBanner, ErrorState, lazyPart, PageSkeleton } from '../ui'
import { NoOrganization } from '../shell/NoOrganization'
import { NotFoundPage } from './NotFoundPage'
import { paths } from './paths'
import { SignedIn } from './SignedIn'

const SignInPage = lazyPart('The sign-in page could not be loaded', null, () => import('../signin').then((it) => it.SignInPage))
const TaskPage = lazyPart('The task could not be loaded', <PageSkeleton />, () => import('../task').then((it) => it.TaskPage))
const RepositoryPage = lazyPart('The repository could not be loaded', <PageSkeleton />, () =>
  import('../repository').then((it) => it.RepositoryPage),
)
const ModelsPage = lazyPart('The models could not be loaded', <PageSkeleton />, () => import('../models').then((it) => it.ModelsPage))
const TokensPage = lazyPart('The access tokens could not be loaded', <PageSkeleton />, () =>
  import('../tokens').then((it) => it.TokensPage),
)

const SessionsPage = lazyPart('The sessions could not be loaded', <PageSkeleton />, () =>
  import('../sessions').then((it) => it.SessionsPage),
)
const DevicePage = lazyPart('The page for programs could not be loaded', <PageSkeleton />, () =>
  import('../device').then((it) => it.DevicePage),
)

/** The page for each address. */
export function Routes() {
  return (
    <Switch>
      <Route path={paths.signIn}>
        <SignInPage />
      </Route>
      <Route path={paths.home}>
        <SignedIn>
          <Home />
        </SignedIn>
      </Route>
      <Route path="/device/:programSignInId?">
        {({ programSignInId }) => (
          <SignedIn>
            <DevicePage key={programSignInId} programSignInId={programSignInId} />
          </SignedIn>
        )}
      </Route>
      <Route path="/o/:organizationId/*?">
        {({ organizationId }) => (
          <SignedIn>
            <AppFrame key={organizationId} organizationId={organizationId}>
              <OrganizationRoutes organizationId={organizationId} />
            </AppFrame>
          </SignedIn>
        )}
      </Route>
      <Route>
        <NotFoundPage />
      </Route>
    </Switch>
  )
}

function OrganizationRoutes({ organizationId }: { organizationId: string }) {
  return (
    <Switch>
      <Route path="/o/:organizationId">
        <Welcome />
      </Route>
      <Route path="/o/:organizationId/new">
        <Welcome opensNewTask />
      </Route>
      <Route path="/o/:organizationId/t/:taskId">
        {({ taskId }) => <TaskPage key={taskId} organizationId={organizationId} taskId={taskId} />}
      </Route>
      <Route path="/o/:organizationId/r/:repositoryId">
        {({ repositoryId }) => <RepositoryPage key={repositoryId} repositoryId={repositoryId} />}
      </Route>
      <Route path="/o/:organizationId/models">
        <ModelsPage />
      </Route>
      <Route path="/o/:organizationId/tokens">
        <TokensPage />
      </Route>
      <Route path="/o/:organizationId/sessions">
        <SessionsPage />
      </Route>
      <Route>
        <NotFoundPage inFrame />
      </Route>
    </Switch>
  )
}

/** Redirects to the active organization when it is known. */
function Home() {
  const shell = useShell()
  const organizationId = homeOrganization(shell)
  if (organizationId !== undefined) return <Redirect to={paths.organization(organizationId)} replace />
  if (shell.phase === 'ended') return <ErrorState error={shell.error} title="Your organizations could not be loaded" page />
  if (shell.phase === 'loading') {
    return (
      <>
        <ConnectionBanner />
        <PageSkeleton label="Loading your organizations" />
      </>
    )
  }
  return <NoOrganization />
}
