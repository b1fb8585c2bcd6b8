export { chooseFonts } from './fonts'
export { ThemeProvider } from './ThemeProvider'
export { shareStyleNonce, styleNonce } from './nonce'
export { theme } from './theme'
