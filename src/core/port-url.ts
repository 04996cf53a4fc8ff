/** Whether a port looks like that of a web server, by its number: nobody is asked. */

const HTTPS = new Set([443, 8443, 9443]);
const HTTP = new Set([80, 1313, 4000, 4200, 4321, 5000, 5173, 5174, 5500, 6006, 8787, 8888, 9000, 9090]);
/** First and last. */
const HTTP_RANGES = [
  [3000, 3010],
  [8000, 8100],
] as const;

/** `http://dev.vm:8000/`; null: it is not one of the usual ports. */
export function guessUrl(host: string, port: number): string | null {
  if (HTTPS.has(port)) return `https://${host}${port === 443 ? '' : `:${port}`}/`;
  const isHttp = HTTP.has(port) || HTTP_RANGES.some(([first, last]) => port >= first && port <= last);
  return isHttp ? `http://${host}${port === 80 ? '' : `:${port}`}/` : null;
}
