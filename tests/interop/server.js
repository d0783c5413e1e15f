// An OpenID Provider that tokenward's authors did not write: npm oidc-provider.
//
//   node server.js PORT REDIRECT_URI POST_LOGOUT_REDIRECT_URI
//
// From the environment come CLIENT_SECRET, CLIENT_JWKS (the public keys of "worker-key" and
// "app-key") and INITIAL_ACCESS_TOKEN, which lets clients register. Prints "ready ISSUER" when
// it listens.
// There is one user, alice; whoever is sent to the login page is alice at once.

import { createServer } from 'node:http';

import Provider, { errors } from 'oidc-provider';

const [port, redirectUri, postLogoutRedirectUri] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';

// A client for itself alone.
const worker = (name, method, more = {}) => ({
  client_id: name,
  client_secret: process.env.CLIENT_SECRET,
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  token_endpoint_auth_method: method,
  ...more,
});

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'app',
      client_secret: process.env.CLIENT_SECRET,
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: [redirectUri],
      post_logout_redirect_uris: [postLogoutRedirectUri],
      token_endpoint_auth_method: 'client_secret_basic',
    },
    {
      client_id: 'app-key', // signs its requests, and has no secret
      grant_types: ['authorization_code'],
      response_types: ['code'],
      redirect_uris: [redirectUri],
      token_endpoint_auth_method: 'private_key_jwt',
      require_signed_request_object: true,
      request_object_signing_alg: 'ES256',
      jwks: JSON.parse(process.env.CLIENT_JWKS),
    },
    worker('worker-basic', 'client_secret_basic'),
    worker('worker-post', 'client_secret_post'),
    worker('worker-key', 'private_key_jwt', {
      client_secret: undefined,
      jwks: JSON.parse(process.env.CLIENT_JWKS),
    }),
    worker('reader', 'client_secret_basic', { introspection_signed_response_alg: 'RS256' }),
    {
      client_id: 'tv',
      application_type: 'native',
      grant_types: [DEVICE_CODE, 'refresh_token'],
      response_types: [],
      redirect_uris: [],
      token_endpoint_auth_method: 'none',
    },
    {
      client_id: 'tv-signed',
      client_secret: process.env.CLIENT_SECRET,
      grant_types: [DEVICE_CODE],
      response_types: [],
      redirect_uris: [],
      userinfo_signed_response_alg: 'RS256',
    },
  ],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
  scopes: ['openid', 'offline_access', 'profile'],
  claims: { openid: ['sub'], profile: ['name'] },
  conformIdTokenClaims: false, // name goes into the id_token, where the app reads it
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: 'Alice Anders' }),
  }),
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: (ctx, token, client) => (client.clientId === 'app' ? 2 : 60),
    AuthorizationCode: 60,
    ClientCredentials: 60,
    DeviceCode: 60,
    Grant: 3600,
    IdToken: 300,
    Interaction: 300,
    RefreshToken: 3600,
    Session: 3600,
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: {
      enabled: true,
      // The pages, without their looks.
      userCodeInputSource: (ctx, form, out, error) => {
        ctx.body = error ? `${error.name} ${form}` : form;
      },
      userCodeConfirmSource: (ctx, form) => {
        ctx.body = form;
      },
      successSource: (ctx) => {
        ctx.body = 'device allowed';
      },
    },
    introspection: { enabled: true },
    jwtIntrospection: { enabled: true },
    jwtUserinfo: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    requestObjects: { enabled: true },
    registration: { enabled: true, initialAccessToken: process.env.INITIAL_ACCESS_TOKEN },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (!resource.startsWith('https://api.test/')) throw new errors.InvalidTarget();
        return { scope: 'read write', audience: resource, accessTokenTTL: 60 };
      },
    },
    revocation: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      // The page that asks "log out?", without its looks.
      logoutSource: (ctx, form) => {
        ctx.body = form;
      },
    },
  },
  interactions: {
    url: (ctx, interaction) => `/interaction/${interaction.uid}`,
  },
  cookies: { keys: ['interop'] },
});

// Says yes to every question: I am alice, and the app may have what it asks for.
async function interact(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: 'alice' } });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  for (const resource of [params.resource ?? []].flat()) {
    grant.addResourceScope(resource, 'read write');
  }
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

const answer = provider.callback();

createServer((request, response) => {
  if (request.url.startsWith('/interaction/')) {
    interact(request, response).catch((error) => {
      response.writeHead(500).end(error.message);
    });
  } else {
    answer(request, response);
  }
}).listen(Number(port), '127.0.0.1', () => {
  process.stdout.write(`ready ${issuer}\n`);
});
