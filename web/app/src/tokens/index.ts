export { TokensPage } from './TokensPage'
