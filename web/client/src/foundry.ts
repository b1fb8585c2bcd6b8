import type { Client, Transport } from '@connectrpc/connect';
import type { AuthService, CompleteSignInResponse } from './gen/foundry/auth/v1/auth_service_pb';
import type { ProvisionerService } from './gen/foundry/provisioner/v1/provisioner_service_pb';
import type { RepoService } from './gen/foundry/repo/v1/repo_service_pb';
import type { TaskService } from './gen/foundry/task/v1/task_service_pb';
import type { SessionKeyStore } from './sessionKey';
import type { ConnectionState, LogEvent, Topic, TopicState } from './types';

/** Something that can be read now and heard of later; what `useSyncExternalStore` takes. */
export interface Readable<T> {
  get(): T;
  subscribe(listener: () => void): () => void;
}

export interface FoundryOptions {
  /** Address of the gateway; default: the page's origin. */
  baseUrl?: string;
  sessionKey?: SessionKeyStore;
  /** Where the subscriptions live. Default: `shared` when `createWorker` is given and the browser can, else `page`. */
  worker?: 'shared' | 'page';
  /** Makes the worker; the page calls `new SharedWorker(new URL(…), { type: 'module' })` so that its bundler sees it. */
  createWorker?: () => SharedWorker;
  transport?: Transport;
}

/** All calls and watches of a page; one per page. */
export class Foundry {
  readonly auth!: Client<typeof AuthService>;
  readonly task!: Client<typeof TaskService>;
  readonly repo!: Client<typeof RepoService>;
  readonly provisioner!: Client<typeof ProvisionerService>;
  readonly connection!: Readable<ConnectionState>;
  readonly log!: Readable<readonly LogEvent[]>;

  constructor(_options: FoundryOptions = {}) {
    throw new Error('in the making');
  }

  subscribe<T>(_topic: Topic<T>, _listener: (state: TopicState<T>) => void): () => void {
    throw new Error('in the making');
  }

  topicState<T>(_topic: Topic<T>): TopicState<T> | undefined {
    throw new Error('in the making');
  }

  signIn(_secret: string, _login: string, _organizationName?: string): Promise<CompleteSignInResponse> {
    throw new Error('in the making');
  }

  signOut(): Promise<void> {
    throw new Error('in the making');
  }

  reconnectNow(): void {}

  dispose(): void {}
}
