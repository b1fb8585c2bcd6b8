import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** A network that can be cut: passes TCP connections on, until it does not. */
export class SeveringProxy {
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private port: number,
    private isCut = false,
  ) {}

  /** Passes on to a port of this machine. */
  static async to(port: number): Promise<SeveringProxy> {
    const server = createServer();
    const proxy = new SeveringProxy(server, port);
    server.on('connection', (client) => proxy.pass(client));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return proxy;
  }

  /** Where clients connect. */
  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Leads new connections to another port; those that are open stay where they are. */
  lead(port: number): void {
    this.port = port;
  }

  /** Cuts all connections; new ones work again at once. */
  sever(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Cuts all connections and refuses new ones until `mend`. */
  cut(): void {
    this.isCut = true;
    this.sever();
  }

  mend(): void {
    this.isCut = false;
  }

  close(): void {
    this.cut();
    this.server.close();
  }

  private pass(client: Socket): void {
    if (this.isCut) return void client.destroy();
    const upstream = connect(this.port, '127.0.0.1');
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }
}
