-- Other programs, whose end the whole process would wait for.
function main(env, con)
    local found = {}
    for name, call in pairs {
        ["os.execute"] = function() return os.execute("touch executed") end,
        ["io.popen"] = function() return io.popen("touch executed") end,
    } do
        local ok, problem = pcall(call)
        if ok or not problem:find(name .. " is not available to scripts", 1, true) then found[#found + 1] = tostring(problem) end
    end
    if pcall(os.execute) then found[#found + 1] = "os.execute()" end
    con:puts(#found == 0 and not io.open("executed") and "held" or table.concat(found, "\n"))
end
