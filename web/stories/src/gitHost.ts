/** A host of private Git repositories: real `git http-backend` behind a token. */
import { spawn } from 'node:child_process';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export class GitHost {
  private constructor(
    private readonly server: Server,
    private readonly root: string,
    private readonly token: string,
  ) {}

  /** Serves all repositories below a directory, to callers with this token, on a free port. */
  static async start(root: string, token: string): Promise<GitHost> {
    const server = createServer();
    const host = new GitHost(server, root, token);
    server.on('request', (request, response) => host.answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return host;
  }

  /** Its base URL. */
  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Stops it. */
  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const pair = Buffer.from((request.headers.authorization ?? '').replace(/^Basic /, ''), 'base64').toString();
    if (pair.slice(pair.indexOf(':') + 1) !== this.token) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end('access denied\n');
      return;
    }
    const at = new URL(request.url ?? '/', this.url);
    const header = (name: string) => String(request.headers[name] ?? '');
    const backend = spawn('git', ['http-backend'], {
      env: {
        ...process.env,
        GIT_PROJECT_ROOT: this.root,
        GIT_HTTP_EXPORT_ALL: '1',
        PATH_INFO: at.pathname,
        QUERY_STRING: at.search.slice(1),
        REQUEST_METHOD: request.method ?? 'GET',
        CONTENT_TYPE: header('content-type'),
        CONTENT_LENGTH: header('content-length'),
        HTTP_CONTENT_ENCODING: header('content-encoding'),
        GIT_PROTOCOL: header('git-protocol'),
      },
    });
    request.pipe(backend.stdin);
    const chunks: Buffer[] = [];
    backend.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    backend.on('close', () => {
      const all = Buffer.concat(chunks);
      const end = all.indexOf('\r\n\r\n');
      for (const line of all.subarray(0, end).toString().split('\r\n')) {
        const [name = '', value = ''] = line.split(/: (.*)/);
        if (name === 'Status') response.statusCode = Number(value.slice(0, 3));
        else if (name !== '') response.setHeader(name, value);
      }
      response.end(all.subarray(end + 4));
    });
  }
}
