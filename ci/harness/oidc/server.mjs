// A real OpenID provider (oidc-provider) on a free port of the loopback interface, for the tests.
//
// It prints one line, `ready <issuer>`, when it can be called. Everything is kept in memory, its keys too, so nothing of it
// is worth anything after it has ended. What a person does in a browser is done here by two routes of our own:
//
//   POST /test/approve?user_code=ABCD-EFGH&login=ann    ann says yes to a device login
//   POST /test/deny?user_code=ABCD-EFGH                 somebody says no
//   POST /test/rotate                                   a new signing key; the old one is not published any more
//
// Clients: `kontor-cli` (public, device login) and `kontor-robot` (client credentials, its access tokens are JWTs for the
// audience `kontor`).

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages lie beside the copy in target/ci, not beside this file.
const modules = createRequire(`${process.argv[2]}/package.json`);
const { Provider } = await import(pathToFileURL(modules.resolve('oidc-provider')).href);

const AUDIENCE = 'kontor';
const RESOURCE = 'urn:kontor:registry';
const PEOPLE = {
  ann: { email: 'ann@example.org', email_verified: true, groups: ['registry:t1:push', 'office'] },
  bob: { email: 'bob@example.org', email_verified: false, groups: [] },
};

function key() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function configuration() {
  return {
    jwks: { keys: [key()] },
    clients: [
      {
        client_id: 'kontor-cli',
        token_endpoint_auth_method: 'none',
        application_type: 'native',
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
        redirect_uris: [],
        response_types: [],
      },
      {
        client_id: 'kontor-robot',
        client_secret: 'robot-secret-of-the-tests',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username', 'groups'] },
    scopes: ['openid', 'email', 'profile'],
    // Otherwise an ID token has its claims only if there is no access token.
    conformIdTokenClaims: false,
    async findAccount(_ctx, id) {
      return { accountId: id, claims: async () => ({ sub: id, preferred_username: id, ...PEOPLE[id] }) };
    },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // Not for people: they get an ID token.
        defaultResource: (ctx) => (ctx.oidc.client.clientId === 'kontor-robot' ? RESOURCE : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'registry', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 300,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    ttl: { DeviceCode: 300, IdToken: 300, Grant: 300, AccessToken: 300, ClientCredentials: 300 },
  };
}

// Says yes to a device login, as the provider's own pages do it in lib/actions/authorization.
async function approve(provider, code, login) {
  const grant = new provider.Grant({ accountId: login, clientId: code.clientId });
  grant.addOIDCScope(code.params.scope);
  Object.assign(code, {
    accountId: login, grantId: await grant.save(), scope: code.params.scope, claims: {}, authTime: Math.floor(Date.now() / 1000),
  });
  await code.save();
}

function make(issuer) {
  const provider = new Provider(issuer, configuration());
  provider.use(async (ctx, next) => {
    if (ctx.method !== 'POST' || !['/test/approve', '/test/deny'].includes(ctx.path)) return next();
    const userCode = String(ctx.query.user_code).replace(/[^A-Z0-9]/g, '');
    const code = await provider.DeviceCode.findByUserCode(userCode);
    if (!code) {
      ctx.status = 404;
    } else if (ctx.path === '/test/deny') {
      Object.assign(code, { error: 'access_denied', errorDescription: 'somebody said no' });
      await code.save();
      ctx.status = 204;
    } else {
      await approve(provider, code, String(ctx.query.login));
      ctx.status = 204;
    }
  });
  return provider;
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  let callback = make(issuer).callback();
  server.on('request', (request, response) => {
    if (request.method === 'POST' && request.url === '/test/rotate') {
      callback = make(issuer).callback();
      response.writeHead(204).end();
    } else {
      callback(request, response);
    }
  });
  console.log(`ready ${issuer}`);
});
process.on('SIGTERM', () => process.exit(0));
