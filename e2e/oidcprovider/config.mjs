// What the provider is told: clients, accounts, claims, lifetimes and features.
import * as pages from './pages.mjs';

const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code';

// The passwords are no secrets: the accounts exist only on loopback, for a test.
const accounts = {
  alice: {
    password: 'alice-password', name: 'Alice Example', email: 'alice@example.com', groups: ['admins', 'staff'],
  },
  bob: {
    password: 'bob-password', name: 'Bob Example', email: 'bob@example.com', groups: ['staff'],
  },
};

// The id differs from the user name, so that a test sees which of the two was used.
const idOf = (login) => `id-of-${login}`;

// accountFor returns the account id, or nothing where user or password is wrong.
export function accountFor(login, password) {
  const known = Object.hasOwn(accounts, login) && accounts[login].password === password;
  return known ? idOf(login) : undefined;
}

async function findAccount(ctx, accountId) {
  const login = Object.keys(accounts).find((name) => idOf(name) === accountId);
  if (!login) return undefined;
  const { name, email, groups } = accounts[login];
  const claims = {
    sub: accountId, preferred_username: login, name, email, email_verified: true, groups,
  };
  return { accountId, claims: async () => claims };
}

function client(id, method, settings, more) {
  return {
    client_id: id,
    client_name: id,
    application_type: 'native',
    token_endpoint_auth_method: method,
    ...(method.startsWith('client_secret') ? { client_secret: settings.secret } : {}),
    grant_types: [deviceGrant, 'refresh_token'],
    response_types: [],
    redirect_uris: [],
    ...(settings.backchannelLogoutURI ? {
      backchannel_logout_uri: settings.backchannelLogoutURI,
      backchannel_logout_session_required: true,
    } : {}),
    ...more,
  };
}

// Clients without a secret are there where there are keys for them.
function clientsWithKeys(settings) {
  const { clientKeys: jwks, tls } = settings;
  if (!jwks) return [];
  const signing = client('e2e-key', 'private_key_jwt', settings, { jwks });
  if (!tls) return [signing];
  return [
    signing,
    client('e2e-certificate', 'tls_client_auth', settings, { tls_client_auth_san_dns: 'gateway.example.com' }),
    client('e2e-self-signed', 'self_signed_tls_client_auth', settings, { jwks }),
  ];
}

const peer = (ctx) => ctx.socket.getPeerX509Certificate();

// By the certificate of the connection: TLS ends in this process.
const byCertificate = ({ clientCA }) => ({
  enabled: true,
  tlsClientAuth: true,
  selfSignedTlsClientAuth: true,
  getCertificate: peer,
  certificateAuthorized: (ctx) => peer(ctx).checkIssued(clientCA) && peer(ctx).verify(clientCA.publicKey),
  certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns' && peer(ctx).checkHost(expected) !== undefined,
});

export function configuration(settings, keys, adapter) {
  return {
    adapter,
    findAccount,
    jwks: keys.jwks,
    cookies: { keys: keys.cookies },
    clients: [
      client('e2e-public', 'none', settings),
      client('e2e-basic', 'client_secret_basic', settings),
      client('e2e-post', 'client_secret_post', settings),
      ...clientsWithKeys(settings),
    ],
    clientAuthMethods: [
      'none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt',
      ...(settings.tls ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
    ],
    scopes: ['openid', 'profile', 'email', 'offline_access'],
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username', 'groups'],
      email: ['email', 'email_verified'],
    },
    conformIdTokenClaims: false,
    // One that comes a second time takes the whole grant back (RFC 9700 §4.14.2).
    rotateRefreshToken: !settings.keepRefreshToken,
    ttl: {
      AccessToken: settings.accessTokenLife,
      DeviceCode: settings.deviceCodeLife,
      Grant: 1209600,
      IdToken: settings.accessTokenLife,
      Interaction: 3600,
      RefreshToken: 1209600,
      Session: 1209600,
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    // The dispatcher that it comes with refuses loopback, where the gateway is.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    renderError: (ctx, out) => {
      ctx.type = 'json';
      ctx.body = out;
    },
    features: {
      devInteractions: { enabled: false },
      ...(settings.tls ? { mTLS: byCertificate(settings) } : {}),
      backchannelLogout: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: pages.signOut, postLogoutSuccessSource: pages.signedOut },
      deviceFlow: {
        enabled: !settings.noDeviceFlow,
        userCodeInputSource: pages.codeEntry,
        userCodeConfirmSource: pages.codeCheck,
        successSource: pages.success,
      },
    },
  };
}
