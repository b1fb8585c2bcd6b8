import { useTitle } from '../app/useTitle'
import { useFrame } from '../shell/frame'
import { useOrganization } from '../state/organization'
import { useAgentProfiles, useModelLimits, useModelProviders, useModelUsage } from '../state/profiles'
import { AgentProfiles } from './AgentProfiles'
import { ModelLimits } from './ModelLimits'
import { ModelProviders } from './ModelProviders'
import { ModelUse } from './ModelUse'
import classes from './ModelsPage.module.css'

/**
 * Model providers, agent profiles, limits and use of models of an organization. Loaded when the page is opened and
 * after each change made here.
 */
export function ModelsPage() {
  const { organizationId } = useOrganization()
  const { canAdminister } = useFrame()
  const providers = useModelProviders(organizationId)
  const profiles = useAgentProfiles(organizationId)
  const limits = useModelLimits(organizationId)
  const usage = useModelUsage(organizationId)
  useTitle('Models')
  return (
    <div className={classes.page}>
      <h1 className={classes.title}>Models</h1>
      {!canAdminister && <p className="fd-muted">Only admins and owners of the organization can make changes here.</p>}
      <ModelProviders read={providers} />
      <AgentProfiles read={profiles} providers={providers.data ?? []} />
      <ModelLimits read={limits} />
      <ModelUse read={usage} providers={providers.data ?? []} />
    </div>
  )
}
