// Chromium on one page: node browser_page.js URL COUNT SPKI FOLDER. Prints what the page saw, as JSON.
const { chromium } = require("playwright-core");

const [url, count, spki, folder] = process.argv.slice(2);

(async () => {
  const context = await chromium.launchPersistentContext(`${folder}/profile`, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // This one certificate and no other; unlike ignoring all errors, it leaves the page a secure one.
      `--ignore-certificate-errors-spki-list=${spki}`,
      `--log-net-log=${folder}/net.json`,
    ],
  });
  const page = await context.newPage();
  await page.goto(url);
  const found = await page.evaluate(async (count) => {
    const sockets = await Promise.all(Array.from({ length: count }, (_, number) => talk(number)));
    const { nextHopProtocol } = performance.getEntriesByType("navigation")[0];
    return { sockets, nextHopProtocol, isSecure: isSecureContext };
  }, +count);
  // The log is whole only when the browser is gone.
  await context.close();
  console.log(JSON.stringify(found));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
