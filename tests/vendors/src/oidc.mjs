// An OAuth server (oidc-provider) that rotates refresh tokens and takes a reused one for theft, the resource that its
// tokens open, and a count of what it has done.
import http from "node:http";
import Provider from "oidc-provider";

const seconds = Number(process.env.SECONDS);
const redirect = process.env.REDIRECT;
const counts = { code: 0, refresh: 0, refused: 0, accepted: 0, unauthorised: 0 };
let provider;

const server = http.createServer(async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  const { pathname } = new URL(request.url, "http://127.0.0.1");
  if (pathname === "/counts") return answer(200, counts);
  if (pathname !== "/resource") return provider.callback()(request, response);
  request.resume();
  const [, bearer] = (request.headers.authorization ?? "").split(" ");
  const token = bearer ? await provider.AccessToken.find(bearer) : undefined;
  if (token?.isValid) {
    counts.accepted += 1;
    return answer(200, { ok: true });
  }
  counts.unauthorised += 1;
  return answer(401, { error: "invalid_token" });
});

server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [{
      client_id: "app-1",
      client_secret: "the-secret-of-app-1",
      redirect_uris: [redirect],
      grant_types: ["authorization_code", "refresh_token"],
      token_endpoint_auth_method: "client_secret_basic",
    }],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: () => true,
    scopes: ["openid", "offline_access"],
    ttl: { AccessToken: seconds, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600 },
    features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    cookies: { keys: ["of-this-proof-only"] },
  });
  provider.on("grant.success", (ctx) => {
    counts[ctx.oidc.params.grant_type === "refresh_token" ? "refresh" : "code"] += 1;
  });
  provider.on("grant.error", () => { counts.refused += 1; });
  console.log(`ready ${port}`);
});
