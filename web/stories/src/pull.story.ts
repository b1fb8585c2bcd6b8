/** From a private repository to an open pull request with green checks, with the demo agent. */
import { journey } from './journey';

journey({ settings: [], prompt: (steps) => steps, mark: 'demo-agent', secrets: [], patience: 60_000 });
