// The forms that a person sees at the provider: sign-in, consent, code entry, code check, and the end.

const escapes = {
  '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;',
};
const safe = (value) => String(value).replace(/[&<>"']/g, (char) => escapes[char]);

function page(title, body) {
  return `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>${safe(title)}</title></head>
<body>
<h1>${safe(title)}</h1>
${body}
</body>
</html>
`;
}

export function signIn(message = '') {
  return page('Sign in', `<p role="alert">${safe(message)}</p>
<form method="post">
<input type="hidden" name="prompt" value="login">
<label>User <input name="login" autocomplete="username"></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<button type="submit">Continue</button>
<button type="submit" name="abort" value="yes">Cancel</button>
</form>`);
}

export function consent(client, scopes) {
  const list = scopes.map((scope) => `<li>${safe(scope)}</li>`).join('');
  return page('Allow access', `<p>${safe(client)} asks for:</p><ul>${list}</ul>
<form method="post">
<input type="hidden" name="prompt" value="consent">
<button type="submit">Continue</button>
<button type="submit" name="abort" value="yes">Cancel</button>
</form>`);
}

// The pages below take what oidc-provider hands to its page functions.

export async function codeEntry(ctx, form, out, err) {
  const message = err ? `${err.name}: ${err.message}` : 'Enter the code that your device shows';
  ctx.body = page('Connect a device', `<p role="status">${safe(message)}</p>
${form}
<button type="submit" form="op.deviceInputForm">Continue</button>`);
}

export async function codeCheck(ctx, form, client, deviceInfo, userCode) {
  ctx.body = page('Is this your device?', `<p>${safe(client.clientId)}</p><p><code>${safe(userCode)}</code></p>
${form}
<button type="submit" form="op.deviceConfirmForm">Continue</button>
<button type="submit" form="op.deviceConfirmForm" name="abort" value="yes">Abort</button>`);
}

export async function success(ctx) {
  ctx.body = page('Signed in', '<p>You may close this page.</p>');
}

export async function signOut(ctx, form) {
  ctx.body = page('Sign out', `${form}
<button type="submit" form="op.logoutForm" name="logout" value="yes">Sign out</button>
<button type="submit" form="op.logoutForm">Cancel</button>`);
}

export async function signedOut(ctx) {
  ctx.body = page('Signed out', '<p>You may close this page.</p>');
}
