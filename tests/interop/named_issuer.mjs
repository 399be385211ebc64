// @cloudflare/privacypass-ts reaches an issuer at https:// and its name. This stands in for the names
// and the certificates of a network.

export const originalFetch = globalThis.fetch;

/** From now on any host is `url`, and the account's key goes along. */
export function nameIssuer(url, accountKey) {
  globalThis.fetch = async (asked, init = {}) => {
    const { pathname } = new URL(asked);
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${accountKey}`);
    return originalFetch(`${url}${pathname}`, { ...init, headers });
  };
}
