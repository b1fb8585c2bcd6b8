import type { ModelProvider, ModelUsage } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { useId } from 'react'
import type { Read } from '../state/read'
import { visibleLine } from '../ui/text/visible'
import { ErrorState, TextSkeleton } from '../ui'
import { dollars, tokensOf } from './amounts'
import classes from './ModelsPage.module.css'

/** What the organization has used of each model, as the gateway counted it. */
export function ModelUse({ read, providers }: { read: Read<ModelUsage[]>; providers: readonly ModelProvider[] }) {
  const id = useId()
  const usage = read.data
  const nameOf = (id: string) => providers.find((it) => it.modelProviderId === id)?.name ?? id
  return (
    <section aria-labelledby={id} className={classes.section}>
      <h2 id={id}>Usage</h2>
      <p className={classes.about}>
        All tasks so far. Cost is known for models with a price. For one task by session: foundry model usage --task ID.
      </p>
      {read.error !== undefined && <ErrorState error={read.error} title="The usage could not be loaded" onRetry={read.reload} compact />}
      {usage === undefined && read.error === undefined && <TextSkeleton lines={2} label="Loading usage" />}
      {usage?.length === 0 && <p className="fd-muted">No calls yet.</p>}
      {usage !== undefined && usage.length > 0 && (
        <div className={classes.scroll}>
          <table aria-labelledby={id} className={classes.table}>
            <thead>
              <tr>
                <th scope="col">Model</th>
                <th scope="col">Provider</th>
                <th scope="col">Calls</th>
                <th scope="col">Tokens</th>
                <th scope="col">Cost</th>
              </tr>
            </thead>
            <tbody>
              {usage.map((it) => (
                <tr key={`${it.modelProviderId}/${it.model}`}>
                  <th scope="row">
                    <bdi>{visibleLine(it.model)}</bdi>
                  </th>
                  <td>
                    <bdi>{visibleLine(nameOf(it.modelProviderId))}</bdi>
                  </td>
                  <td>
                    {Number(it.calls).toLocaleString('en-US')}
                    {it.estimatedCalls > 0n && ` (${Number(it.estimatedCalls).toLocaleString('en-US')} estimated)`}
                  </td>
                  <td>{Number(tokensOf(it)).toLocaleString('en-US')}</td>
                  <td>{it.costMicros === 0n ? '–' : dollars(it.costMicros)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  )
}
