/** What of a row is a fact of one moment or of one host. The only place that says so. */

/**
 * Columns whose values are not part of the state, with the SQL expression that stands in for them in a dump: a loaded
 * dump is a valid database, and the digest does not depend on handles, samples and clocks.
 * schema_migrations is not here: its rows are written from the list of migrations (dump.ts).
 */
export const VOLATILE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  vms: {
    stats_json: "'{}'",
    last_touched_at: 'created_at',
    // What is half made or half deleted must stay known; all else in it is about a process or a failure.
    runtime_json: `CASE
      WHEN runtime_json = '{}' OR typeof(runtime_json) <> 'text' OR NOT json_valid(runtime_json) THEN '{}'
      WHEN json_type(runtime_json) <> 'object' THEN '{}'
      WHEN json_extract(runtime_json, '$.pending') = 'create' THEN '{"pending":"create"}'
      WHEN json_extract(runtime_json, '$.pending') = 'delete' THEN '{"pending":"delete"}'
      ELSE '{}' END`,
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
