// A general store: each poll's fields flattened to key and value rows in an in-memory SQLite, and a query that
// asks for the connections of which all four fields match.
import { DatabaseSync } from "node:sqlite";
import { serve } from "../node-http/broker.mjs";

const db = new DatabaseSync(":memory:");
db.exec(`
  CREATE TABLE connections (id TEXT PRIMARY KEY, metadata TEXT NOT NULL);
  CREATE TABLE metadata_index (connection_id TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL);
  CREATE INDEX by_pair ON metadata_index (key, value);
  CREATE INDEX by_connection ON metadata_index (connection_id);
`);
const insertConnection = db.prepare("INSERT INTO connections (id, metadata) VALUES (?, ?)");
const insertField = db.prepare("INSERT INTO metadata_index (connection_id, key, value) VALUES (?, ?, ?)");
const deleteConnection = db.prepare("DELETE FROM connections WHERE id = ?");
const deleteFields = db.prepare("DELETE FROM metadata_index WHERE connection_id = ?");
const match = db.prepare(`
  SELECT DISTINCT c.id, c.metadata
  FROM connections c JOIN metadata_index i ON i.connection_id = c.id
  WHERE c.id IN (
    SELECT connection_id FROM metadata_index
    WHERE (key = ? AND value = ?) OR (key = ? AND value = ?) OR (key = ? AND value = ?) OR (key = ? AND value = ?)
    GROUP BY connection_id
    HAVING COUNT(DISTINCT key) = ?
  )
  LIMIT 1
`);

const waiters = new Map();
let next = 0;

serve({
  add(key, waiter) {
    const id = `connection_${next++}`;
    waiters.set(id, waiter);
    insertConnection.run(id, JSON.stringify(key));
    for (const [field, value] of Object.entries(key)) insertField.run(id, field, value);
    return id;
  },
  remove(id) {
    if (!waiters.delete(id)) return;
    deleteFields.run(id);
    deleteConnection.run(id);
  },
  take(key) {
    const row = match.get(...Object.entries(key).flat(), 4);
    if (!row) return undefined;
    const waiter = waiters.get(row.id);
    this.remove(row.id);
    return waiter;
  },
});
