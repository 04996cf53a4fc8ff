/** What of a row is a fact of one moment or of one host. The only place that says so. */

export interface StandIn {
  /** SQL over the columns of the row. */
  readonly sql: string;
  /** Whether it is always a text without quotes or NUL. Saying so saves evaluating it once more per row. */
  readonly plain: boolean;
}

/**
 * Columns whose values are not part of the state, with what stands in for them in a dump: a loaded dump is a valid
 * database, and the digest does not depend on handles, samples and clocks.
 * schema_migrations is not here: its rows are written from the list of migrations (dump.ts).
 */
export const VOLATILE: Readonly<Record<string, Readonly<Record<string, StandIn>>>> = {
  vms: {
    stats_json: { sql: "'{}'", plain: true },
    last_touched_at: { sql: 'created_at', plain: false },
    runtime_json: {
      // What is half made or half deleted must stay known; all else in it is about a process or a failure.
      // instr() is there for speed: parsing the JSON of each row would take a third of a dump.
      sql: `CASE
        WHEN typeof(runtime_json) <> 'text' OR NOT instr(runtime_json, '"pending"') THEN '{}'
        WHEN NOT json_valid(runtime_json) OR json_type(runtime_json) <> 'object' THEN '{}'
        WHEN json_extract(runtime_json, '$.pending') = 'create' THEN '{"pending":"create"}'
        WHEN json_extract(runtime_json, '$.pending') = 'delete' THEN '{"pending":"delete"}'
        ELSE '{}' END`,
      plain: true,
    },
  },
};

/** `table.column`s that are in a dump and true on the host it was made on; reconciled on the first start elsewhere. */
export const HOST_BOUND: readonly string[] = [
  'images.artifact_dir',
  'images.initrd_path',
  'images.kernel_path',
  'images.modules_dir',
  'images.rootfs_path',
  'images.work_seed_path',
  'vms.guest_ip',
  'vms.state',
  'vms.workspace_json',
];
