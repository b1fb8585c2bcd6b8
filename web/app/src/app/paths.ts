/** Addresses of the page; ids are escaped. */
export const paths = {
  home: '/',
  signIn: '/sign-in',
  organization: (organizationId: string): string => `/o/${encodeURIComponent(organizationId)}`,
  task: (organizationId: string, taskId: string): string => `/o/${encodeURIComponent(organizationId)}/t/${encodeURIComponent(taskId)}`,
  repository: (organizationId: string, repositoryId: string): string =>
    `/o/${encodeURIComponent(organizationId)}/r/${encodeURIComponent(repositoryId)}`,
  models: (organizationId: string): string => `/o/${encodeURIComponent(organizationId)}/models`,
  tokens: (organizationId: string): string => `/o/${encodeURIComponent(organizationId)}/tokens`,
  sessions: (organizationId: string): string => `/o/${encodeURIComponent(organizationId)}/sessions`,
  newTask: (organizationId: string): string => `/o/${encodeURIComponent(organizationId)}/new`,
}
