import { createRoot } from 'react-dom/client'
import { App } from './app/App'
import { createClient } from './app/client'
import { chooseFonts, shareStyleNonce } from './theme'

shareStyleNonce()
const root = document.getElementById('root')
if (root === null) throw new Error('index.html has no #root')
void chooseFonts().then(() => createRoot(root).render(<App client={createClient()} />))
