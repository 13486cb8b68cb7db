-- Holds 64 megabytes when it is loaded, in strings of a kilobyte which are all different.
local held = {}
for number = 1, 1024 * 64 do
  held[number] = ("%08d"):format(number):rep(128)
end

function main(env, con)
  con:puts("held 64 MB\n")
end
