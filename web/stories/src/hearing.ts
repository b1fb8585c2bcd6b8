/** A fake model provider: answers every call in the form of the Anthropic API, and keeps its headers. */
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export class Hearing {
  /** Headers of the calls, oldest first. */
  readonly heard: IncomingHttpHeaders[] = [];

  private constructor(private readonly server: Server) {}

  /** Listens on a free port. */
  static async start(): Promise<Hearing> {
    const server = createServer();
    const hearing = new Hearing(server);
    server.on('request', (request, response) => {
      hearing.heard.push(request.headers);
      request.resume();
      const usage = { input_tokens: 1, output_tokens: 1 };
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ type: 'message', model: 'model-one', content: [{ type: 'text', text: 'H' }], usage }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return hearing;
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
}
