/** A program that calls the mesh beside the page: sets things up and reads the actual state. */
import { createClient, type Client, type Interceptor } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { AuthService } from '@foundry/client/gen/foundry/auth/v1/auth_service_pb';
import { ProvisionerService } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_service_pb';
import { RepoService } from '@foundry/client/gen/foundry/repo/v1/repo_service_pb';
import { TaskService } from '@foundry/client/gen/foundry/task/v1/task_service_pb';
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb';
import type { Mesh } from './mesh';

/** A signed-in program. */
export class Api {
  readonly auth: Client<typeof AuthService>;
  readonly task: Client<typeof TaskService>;
  readonly repo: Client<typeof RepoService>;
  readonly provisioner: Client<typeof ProvisionerService>;

  private constructor(
    mesh: Mesh,
    token: string,
    /** The organization opened at sign-in. */
    readonly organizationId: string,
  ) {
    const transport = transportTo(mesh, token);
    this.auth = createClient(AuthService, transport);
    this.task = createClient(TaskService, transport);
    this.repo = createClient(RepoService, transport);
    this.provisioner = createClient(ProvisionerService, transport);
  }

  /** Signs in as `login` with the secret of the mesh. */
  static async signIn(mesh: Mesh, login: string, organizationName = ''): Promise<Api> {
    const development = { secret: mesh.secret, login, organizationName };
    const answer = await createClient(AuthService, transportTo(mesh)).completeSignIn({
      proof: { case: 'development', value: development },
    });
    return new Api(mesh, answer.sessionToken, answer.organization?.organizationId ?? '');
  }

  /** Makes a known user a member of the organization. */
  async addMember(login: string): Promise<void> {
    await this.auth.setMember({ organizationId: this.organizationId, login, role: Role.MEMBER });
  }
}

function transportTo(mesh: Mesh, token?: string) {
  const bearer: Interceptor = (next) => (request) => {
    if (token) request.header.set('authorization', `Bearer ${token}`);
    return next(request);
  };
  return createGrpcWebTransport({ baseUrl: mesh.url, interceptors: [bearer], useBinaryFormat: true });
}
