// A provider for examples/oidc-provider, on loopback:
//
//	npm install oidc-provider
//	node provider.mjs
//
// Its sign-in form is the one for developing, which takes any password: put
// your own in its place (`interactions` in the documentation) before anybody
// else can reach it.
import { Provider } from 'oidc-provider';

const port = process.env.PORT ?? 3000;
const issuer = process.env.ISSUER ?? `http://127.0.0.1:${port}`;

const groups = { alice: ['admins', 'staff'], bob: ['staff'] };

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'my-gateway',
    client_name: 'My gateway',
    client_secret: 'change-this-secret',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    response_types: [],
    redirect_uris: [],
  }],
  features: {
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
  },
  claims: {
    profile: ['preferred_username', 'groups'],
  },
  // Without this the claims are at the userinfo endpoint only.
  conformIdTokenClaims: false,
  findAccount: async (ctx, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, preferred_username: id, groups: groups[id] }),
  }),
  ttl: {
    DeviceCode: 10 * 60,
    AccessToken: 60 * 60,
    IdToken: 60 * 60,
    Grant: 14 * 24 * 60 * 60,
    RefreshToken: 14 * 24 * 60 * 60,
    Interaction: 60 * 60,
    Session: 14 * 24 * 60 * 60,
  },
});

provider.listen(port, '127.0.0.1', () => console.log(`listening at ${issuer}`));
