import { lazyDialog } from '../../ui'

export const FetchDialog = lazyDialog('The ways to fetch the branch could not be opened', () =>
  import('./FetchWays').then((it) => it.default),
)
