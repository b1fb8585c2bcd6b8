export { AddRepositoryDialog } from './AddRepositoryDialog'
export { RepositoryPage } from './RepositoryPage'
