import { create, fromBinary, toBinary, type DescMessage, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import { AppShellItemSchema, type AppShellItem } from './gen/foundry/auth/v1/auth_pb';
import { WatchAppShellRequestSchema } from './gen/foundry/auth/v1/auth_service_pb';
import { SandboxItemSchema, type SandboxItem } from './gen/foundry/provisioner/v1/provisioner_pb';
import { WatchSandboxRequestSchema } from './gen/foundry/provisioner/v1/provisioner_service_pb';
import { JobItemSchema, type JobItem } from './gen/foundry/repo/v1/job_pb';
import { RepositoryItemSchema, type RepositoryItem } from './gen/foundry/repo/v1/repo_pb';
import { WatchJobsRequestSchema, WatchRepositoryRequestSchema } from './gen/foundry/repo/v1/repo_service_pb';
import {
  OrganizationItemSchema,
  SessionItemSchema,
  TaskItemSchema,
  UserStateItemSchema,
  type OrganizationItem,
  type SessionItem,
  type TaskItem,
  type UserStateItem,
} from './gen/foundry/task/v1/task_pb';
import {
  WatchOrganizationRequestSchema,
  WatchSessionRequestSchema,
  WatchTaskRequestSchema,
  WatchUserStateRequestSchema,
} from './gen/foundry/task/v1/task_service_pb';
import { SessionLog } from './sessionLog';
import type { EntityIndex, Topic } from './types';

const TASK_SERVICE = '/foundry.task.v1.TaskService';

/** Everything a page can watch. */
export const topics = {
  /** User and organizations of the caller; keys `user/<id>` and `organization/<id>`. */
  appShell: (): Topic<AppShellItem> =>
    topic('appShell', '/foundry.auth.v1.AuthService/WatchAppShell', WatchAppShellRequestSchema, {}, AppShellItemSchema),

  /** Repositories and tasks of an organization as lists show them; keys `task/<id>` and `repository/<id>`. */
  organization: (organizationId: string): Topic<OrganizationItem> =>
    topic('organization', `${TASK_SERVICE}/WatchOrganization`, WatchOrganizationRequestSchema, { organizationId }, OrganizationItemSchema),

  /** Drafts and read marks of the caller in an organization; keys `draft/<subject>` and `read/<session id>`. */
  userState: (organizationId: string): Topic<UserStateItem> =>
    topic('userState', `${TASK_SERVICE}/WatchUserState`, WatchUserStateRequestSchema, { organizationId }, UserStateItemSchema),

  /** The caller's review of a task of an organization; keys `comment/<id>` and `viewed/<path>`. */
  review: (organizationId: string, taskId: string): Topic<UserStateItem> =>
    topic('review', `${TASK_SERVICE}/WatchUserState`, WatchUserStateRequestSchema, { organizationId, taskId }, UserStateItemSchema),

  /** A task and its sessions; keys `task/<id>` and `session/<id>`. */
  task: (taskId: string): Topic<TaskItem> => topic('task', `${TASK_SERVICE}/WatchTask`, WatchTaskRequestSchema, { taskId }, TaskItemSchema),

  /** A session, its queue and its transcript entries with an offset above `afterOffset`; read it by `sessionLog`. */
  session: (sessionId: string, afterOffset: bigint): Topic<SessionItem> =>
    topic(
      'session',
      `${TASK_SERVICE}/WatchSession`,
      WatchSessionRequestSchema,
      { sessionId, afterOffset },
      SessionItemSchema,
      () => new SessionLog(),
    ),

  /** A repository; key `repository/<id>`. */
  repository: (repositoryId: string): Topic<RepositoryItem> =>
    topic(
      'repository',
      '/foundry.repo.v1.RepoService/WatchRepository',
      WatchRepositoryRequestSchema,
      { repositoryId },
      RepositoryItemSchema,
    ),

  /** The jobs of a repository; keys `job/<id>`. */
  jobs: (organizationId: string, repositoryId: string): Topic<JobItem> =>
    topic('jobs', '/foundry.repo.v1.RepoService/WatchJobs', WatchJobsRequestSchema, { organizationId, repositoryId }, JobItemSchema),

  /** A sandbox; key `sandbox/<id>`. */
  sandbox: (sandboxId: string): Topic<SandboxItem> =>
    topic(
      'sandbox',
      '/foundry.provisioner.v1.ProvisionerService/WatchSandbox',
      WatchSandboxRequestSchema,
      { sandboxId },
      SandboxItemSchema,
    ),
};

function topic<R extends DescMessage, I extends DescMessage>(
  kind: string,
  method: string,
  requestSchema: R,
  request: MessageInitShape<R>,
  itemSchema: I,
  index?: () => EntityIndex<MessageShape<I>>,
): Topic<MessageShape<I>> {
  const encoded = toBinary(requestSchema, create(requestSchema, request));
  return {
    key: `${method}?${hex(encoded)}`,
    method,
    request: encoded,
    kind,
    decode: (bytes) => fromBinary(itemSchema, bytes),
    index,
  };
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}
