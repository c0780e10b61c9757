// Runs a real OpenID provider with the device flow on, on loopback: node server.mjs <port> [<issuer>].
//
// From the environment:
//   E2E_SECRET                   the secret of the confidential clients (needed)
//   E2E_DEVICE_CODE_LIFE         seconds, 600 unless told
//   E2E_ACCESS_TOKEN_LIFE        seconds, 3600 unless told; the ID token's too
//   E2E_STATE_DIR                where state and keys are kept; without it they end with the process
//   E2E_BACKCHANNEL_LOGOUT_URI   where logout tokens are sent
//   E2E_KEEP_REFRESH_TOKEN       a refresh token is not replaced when it is used
//   E2E_CLIENT_KEYS              a JWK set: clients that sign with these keys, or have their certificates
//   E2E_TLS_CERT, E2E_TLS_KEY    files for TLS; plain HTTP without them
//   E2E_TLS_CLIENT_CA            the file of who signs the clients' certificates
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTLSServer } from 'node:https';
import { Provider } from 'oidc-provider';
import { accountFor, configuration } from './config.mjs';
import * as pages from './pages.mjs';
import { adapterFor, loadKeys, Table } from './state.mjs';

const [port = '0', givenIssuer] = process.argv.slice(2);
const settings = {
  secret: process.env.E2E_SECRET,
  deviceCodeLife: Number(process.env.E2E_DEVICE_CODE_LIFE || 600),
  accessTokenLife: Number(process.env.E2E_ACCESS_TOKEN_LIFE || 3600),
  backchannelLogoutURI: process.env.E2E_BACKCHANNEL_LOGOUT_URI,
  noDeviceFlow: Boolean(process.env.E2E_NO_DEVICE_FLOW),
  keepRefreshToken: Boolean(process.env.E2E_KEEP_REFRESH_TOKEN),
  clientKeys: process.env.E2E_CLIENT_KEYS && JSON.parse(process.env.E2E_CLIENT_KEYS),
  clientCA: process.env.E2E_TLS_CLIENT_CA && new X509Certificate(readFileSync(process.env.E2E_TLS_CLIENT_CA)),
  tls: process.env.E2E_TLS_CERT && {
    cert: readFileSync(process.env.E2E_TLS_CERT),
    key: readFileSync(process.env.E2E_TLS_KEY),
    // Without `ca`, which the server would ask for by name: then a client
    // with a certificate of its own making shows none.
    requestCert: true,
    rejectUnauthorized: false,
  },
};
if (!settings.secret) {
  console.error('E2E_SECRET is not set');
  process.exit(2);
}

const stateDir = process.env.E2E_STATE_DIR;
const server = settings.tls ? createTLSServer(settings.tls) : createServer();
// Node.js ends idle connections after 5 s: a form that was just sent over one is lost.
server.keepAliveTimeout = 0;
server.on('error', (err) => {
  console.error(err.message);
  process.exit(err.code === 'EADDRINUSE' ? 98 : 1);
});
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
server.listen(Number(port), '127.0.0.1', () => {
  // Only now is the port known, and with it the issuer where none was given.
  const issuer = givenIssuer || `${settings.tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration(settings, loadKeys(stateDir), adapterFor(new Table(stateDir))));
  provider.on('server_error', (ctx, err) => console.error('server_error', err));
  provider.on('backchannel.error', (ctx, err) => console.error('backchannel.error', err));
  const answer = provider.callback();
  server.on('request', (req, res) => {
    if (!req.url.startsWith('/interaction/')) {
      answer(req, res);
      return;
    }
    interact(provider, req, res).catch((err) => {
      console.error('interaction', err.name);
      respond(res, err.statusCode || 500, `<p>${err.name}</p>`);
    });
  });
  console.log(`ready ${server.address().port}`);
});

async function interact(provider, req, res) {
  const interaction = await provider.interactionDetails(req, res);
  const form = req.method === 'POST' ? await readForm(req) : undefined;
  if (form?.has('abort')) {
    await provider.interactionFinished(req, res, {
      error: 'access_denied', error_description: 'the person declined',
    }, { mergeWithLastSubmission: false });
    return;
  }
  // A form of an earlier step (the back button) only shows the present one.
  const answered = form && form.get('prompt') === interaction.prompt.name;
  if (interaction.prompt.name === 'login') {
    await login(provider, req, res, answered && form);
    return;
  }
  await allow(provider, req, res, interaction, answered);
}

async function login(provider, req, res, form) {
  if (!form) {
    respond(res, 200, pages.signIn());
    return;
  }
  const accountId = accountFor(form.get('login'), form.get('password'));
  if (!accountId) {
    respond(res, 401, pages.signIn('Wrong user or password'));
    return;
  }
  await provider.interactionFinished(req, res, { login: { accountId } }, { mergeWithLastSubmission: false });
}

async function allow(provider, req, res, interaction, answered) {
  const { params, prompt: { details }, session } = interaction;
  if (!answered) {
    respond(res, 200, pages.consent(params.client_id, (params.scope || '').split(' ')));
    return;
  }
  const grant = interaction.grantId
    ? await provider.Grant.find(interaction.grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(' '));
  if (details.missingOIDCClaims) grant.addOIDCClaims(details.missingOIDCClaims);
  await provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } });
}

async function readForm(req) {
  let body = '';
  for await (const chunk of req) {
    body += chunk;
    if (body.length > 65536) throw new RangeError('form too large');
  }
  return new URLSearchParams(body);
}

function respond(res, status, html) {
  res.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' });
  res.end(html);
}
