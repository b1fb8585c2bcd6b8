"""Tries to reach addresses by every way that there is; prints which attempts were not refused as they should be.

usage: attack.py here|outside ADDRESS,... PORT,... [NAME:PORT ...]
`here` connects and nothing else, and takes a success for what is right: the listeners are there."""
import concurrent.futures, json, socket, subprocess, sys

PROXY = ("127.0.0.1", 61480)
BINARY = "/opt/foundry/bin/foundry"
# A public host, for what begins with one.
PUBLIC = b"GET http://registry.example.org/hello.txt HTTP/1.1\r\nhost: registry.example.org\r\n\r\n"
OURS = ("NETWORK_REFUSED", "NETWORK_REQUEST_MALFORMED")


def authority(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answer(stream):
    head = b""
    while b"\r\n\r\n" not in head and (got := stream.recv(4096)):
        head += got
    head, _, body = head.partition(b"\r\n\r\n")
    length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while length and len(body) < int(length[0]) and (got := stream.recv(4096)):
        body += got
    return (head + b"\n" + body).decode(errors="replace")


def proxied(*requests):
    with socket.create_connection(PROXY, 60) as stream:
        for request in requests:
            stream.sendall(request)
            said = answer(stream)
            if request == PUBLIC and "hello from the world" not in said:
                raise AssertionError(f"the public host is not reached: {said}")
        return said


def directly(host, port):
    try:
        with socket.create_connection((host, port), 10):
            return "REACHED"
    except OSError:
        return "NETWORK_REFUSED: by the kernel"


def connect(to):
    return proxied(f"CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n".encode())


def get(to):
    return f"GET http://{to}/ HTTP/1.1\r\nhost: {to}\r\n\r\n".encode()


def second(to):
    """The connection may have ended with the first request: that reaches nothing either."""
    try:
        return proxied(PUBLIC, get(to)).strip() or "NETWORK_REFUSED: it has ended"
    except OSError as e:
        return f"NETWORK_REFUSED: {e}"


def ran(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120)
    return done.stdout + done.stderr


def ways(host, port):
    to = authority(host, port)
    yield "directly", lambda: directly(host, port)
    yield "by CONNECT", lambda: connect(to)
    yield "after a public host", lambda: second(to)
    yield "curl", lambda: ran("curl", "-sS", "-m", "60", "--noproxy", "", f"http://{to}/")
    yield "foundry connect", lambda: ran(BINARY, "internal", "connect", host, str(port))
    try:
        packed = socket.inet_aton(host) if host.count(".") == 3 else None
    except OSError:
        packed = None
    if packed:
        yield "as IPv6", lambda: connect(authority("::ffff:" + host, port))
        yield "as a number", lambda: connect(f"{int.from_bytes(packed, 'big')}:{port}")


def attempt(host, port, way, act):
    try:
        said = act()
    except Exception as e:
        said = f"{type(e).__name__}: {e}"
    own = host.startswith("127.") or host in ("::1", "localhost")
    refused = any(reason in said for reason in OURS)
    # What is for the own loopback is connected inside, where nobody listens.
    refused = refused or (own and f"port {port} of this sandbox cannot be reached" in said)
    return None if refused and "REACHED" not in said else f"{way}: {authority(host, port)}: {said[:300]}"


def main():
    where, addresses, ports = sys.argv[1], sys.argv[2].split(","), [int(p) for p in sys.argv[3].split(",")]
    targets = [(a, p) for a in addresses for p in ports]
    targets += [(n.split(":")[0], int(n.split(":")[1])) for n in sys.argv[4:]]
    if where == "here":
        wrong = [f"{a} {p} is not there" for a, p in targets if directly(a, p) != "REACHED"]
        print(json.dumps({"attempts": len(targets), "wrong": wrong}))
        return
    jobs = [(h, p, way, act) for h, p in targets for way, act in ways(h, p)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        wrong = [w for w in pool.map(lambda job: attempt(*job), jobs) if w]
    print(json.dumps({"attempts": len(jobs), "wrong": wrong}))


main()
