/** Text inside HTML, also inside attributes. */
export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (each) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[each]!)

/** The name of an anchor. */
export const slug = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]+/g, '-')
