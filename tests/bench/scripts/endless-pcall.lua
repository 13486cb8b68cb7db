local function forever()
  while true do
  end
end

function main(env, con)
  con:puts("begun\n")
  con:flush()
  while true do
    pcall(forever)
  end
end
