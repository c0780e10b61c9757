// Keeps what the provider remembers: in memory, and with a directory also in a journal that survives the process.
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// Table is one map for all models. Each change is appended to the journal at
// once, so that even a killed process comes back with what it had answered.
export class Table {
  #rows = new Map();
  #journal;

  constructor(dir) {
    if (!dir) return;
    this.#journal = join(dir, 'state.json');
    if (!existsSync(this.#journal)) return;
    for (const line of readFileSync(this.#journal, 'utf8').split('\n')) {
      if (!line) continue;
      const { key, row } = JSON.parse(line);
      this.#apply(key, row);
    }
  }

  get(key) {
    const row = this.#rows.get(key);
    if (!row) return undefined;
    if (row.until && row.until <= Date.now()) {
      this.#rows.delete(key);
      return undefined;
    }
    return row.value;
  }

  set(key, value, seconds) {
    const until = typeof seconds === 'number' ? Date.now() + seconds * 1000 : 0;
    this.#write(key, { value, until });
  }

  // change keeps the row's end.
  change(key, value) {
    const row = this.#rows.get(key);
    if (row) this.#write(key, { value, until: row.until });
  }

  delete(key) {
    if (this.#rows.has(key)) this.#write(key, undefined);
  }

  entries() {
    return [...this.#rows.keys()].map((key) => [key, this.get(key)]).filter(([, value]) => value);
  }

  #write(key, row) {
    this.#apply(key, row);
    if (this.#journal) appendFileSync(this.#journal, `${JSON.stringify({ key, row })}\n`);
  }

  #apply(key, row) {
    if (row) this.#rows.set(key, row);
    else this.#rows.delete(key);
  }
}

// adapterFor makes the class that oidc-provider calls, over one table.
export function adapterFor(table) {
  return class Adapter {
    constructor(model) {
      this.model = model;
    }

    key(id) {
      return `${this.model}:${id}`;
    }

    async upsert(id, payload, seconds) {
      table.set(this.key(id), payload, seconds);
      if (payload.userCode) table.set(`userCode:${payload.userCode}`, id, seconds);
      if (this.model === 'Session') table.set(`uid:${payload.uid}`, id, seconds);
    }

    async find(id) {
      return table.get(this.key(id));
    }

    async findByUserCode(userCode) {
      return this.find(table.get(`userCode:${userCode}`));
    }

    async findByUid(uid) {
      return this.find(table.get(`uid:${uid}`));
    }

    async consume(id) {
      const payload = await this.find(id);
      if (payload) table.change(this.key(id), { ...payload, consumed: Math.floor(Date.now() / 1000) });
    }

    async destroy(id) {
      table.delete(this.key(id));
    }

    async revokeByGrantId(grantId) {
      for (const [key, value] of table.entries()) {
        if (value.grantId === grantId) table.delete(key);
      }
    }
  };
}

// loadKeys returns the signing keys and the cookie keys. They have a file of
// their own: losing the sessions and changing the keys are different accidents.
export function loadKeys(dir) {
  const file = dir && join(dir, 'keys.json');
  if (file && existsSync(file)) return JSON.parse(readFileSync(file, 'utf8'));
  const keys = {
    jwks: { keys: [signingKey('rsa', { modulusLength: 2048 }, 'RS256'), signingKey('ec', { namedCurve: 'P-256' }, 'ES256')] },
    cookies: [randomBytes(32).toString('base64url')],
  };
  if (file) writeFileSync(file, JSON.stringify(keys), { mode: 0o600 });
  return keys;
}

// The key goes through PEM: Node.js 20 can hang where one that it has just made
// is exported as a JWK while garbage is collected.
function signingKey(type, options, alg) {
  const { privateKey } = generateKeyPairSync(type, {
    ...options,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  return {
    ...createPrivateKey(privateKey).export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), use: 'sig', alg,
  };
}
