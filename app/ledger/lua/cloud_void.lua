-- Say that tickets or runs are void. ARGV: now (unused), then id, ticket or run, worker ('' for all) of each
for i = 2, #ARGV, 3 do make_void(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return 'OK'
